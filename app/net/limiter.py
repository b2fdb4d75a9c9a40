"""How fast one account may call one model: even steps of time, shared by all who use them.

The upstream punishes bursts, so nothing is saved up: a step that nobody took is gone, and after
a start the first one has to be waited for as well. The state is behind a small store: in memory
for one process, in a row of a database (app/db/pace.py) for several.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

Ticks = Callable[[], float]
"""Seconds of a clock that never goes back."""

MINUTE = 60.0
SHARE = 0.98  # of the allowed rate: steps arrive a little closer together than they left
ASK_SECONDS = 0.25  # before its step a caller asks whether a hold came; half a step, if less
OUT_SHARE = 0.99  # of the allowed rate: how fast steps that a stall delayed are made up for
LATE_SHARE = 0.1  # of a gap: who wakes later than that makes the next one later, too
LONGEST_HOLD_SECONDS = 60.0


class QueueTooLongError(Exception):
    """The next free step is later than the caller can wait; `seconds` is how long it would be."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the next free step is {seconds:.1f} s away")
        self.seconds = seconds


class StepStore(Protocol):
    """Keeps the next free step of every key, by one clock for all who share it."""

    async def take(self, key: str, gap: float, patience: float) -> tuple[float, int | None]:
        """Take the next step: return in how many seconds it is, and how many holds there were.

        None instead of the holds: it is later than `patience` seconds, and was not taken.
        """

    async def next_free(self, key: str, gap: float) -> float:
        """Return in how many seconds the next free step is, and leave it free."""

    async def hold(self, key: str, seconds: float) -> None:
        """Let no step be before so many seconds from now; those taken already are void."""

    async def holds(self, key: str) -> int:
        """Return how many holds there have been."""


@dataclass(slots=True)
class _Steps:
    free_at: float
    held_until: float = 0.0
    holds: int = 0


class MemorySteps:
    """A StepStore for one process."""

    def __init__(self, ticks: Ticks = time.monotonic) -> None:
        self._ticks = ticks
        self._steps: dict[str, _Steps] = {}
        self._began = ticks()

    async def take(self, key: str, gap: float, patience: float) -> tuple[float, int | None]:
        """Take the next step; see StepStore."""
        now = self._ticks()
        steps = self._steps.setdefault(key, _Steps(self._began + gap))
        at = max(steps.free_at, now)
        if at - now > patience:
            return at - now, None
        steps.free_at = at + gap
        return at - now, steps.holds

    async def next_free(self, key: str, gap: float) -> float:
        """Return in how many seconds the next free step is."""
        steps = self._steps.get(key)
        return max(0.0, (steps.free_at if steps else self._began + gap) - self._ticks())

    async def hold(self, key: str, seconds: float) -> None:
        """Void the steps taken and let none be for so many seconds."""
        steps = self._steps.setdefault(key, _Steps(self._began))
        steps.free_at = max(steps.held_until, self._ticks() + seconds)
        steps.held_until = steps.free_at
        steps.holds += 1

    async def holds(self, key: str) -> int:
        """Return how many holds there have been."""
        return self._steps[key].holds if key in self._steps else 0


@dataclass(slots=True)
class _Door:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    left_at: float = -math.inf


class Limiter:
    """Makes callers wait for their step. One for all engines of a process."""

    def __init__(self, store: StepStore, ticks: Ticks = time.monotonic) -> None:
        self._store = store
        self._ticks = ticks
        self._doors: dict[str, _Door] = {}

    async def wait(self, key: str, per_minute: float, patience: float) -> None:
        """Sleep until the caller's step, and again where a hold came meanwhile.

        Raises QueueTooLongError where that would be longer than `patience` seconds.
        """
        until = self._ticks() + patience
        gap = MINUTE / (per_minute * SHARE)
        while True:
            seconds, holds = await self._store.take(key, gap, until - self._ticks())
            if holds is None:
                raise QueueTooLongError(seconds)
            at = self._ticks() + seconds
            # Asking takes time, too: a little early, so that the step itself is met.
            if (before := seconds - min(ASK_SECONDS, gap / 2)) > 0:
                await asyncio.sleep(before)
                if await self._store.holds(key) != holds:
                    continue
            await asyncio.sleep(max(0.0, at - self._ticks()))
            return

    async def leave(self, key: str, per_minute: float) -> None:
        """Go out last thing before the call, one by one: a stall, or a slow commit, joins steps."""
        door, spacing = self._doors.setdefault(key, _Door()), MINUTE / (per_minute * OUT_SHARE)
        async with door.lock:
            at = door.left_at + spacing
            await asyncio.sleep(max(0.0, at - self._ticks()))
            door.left_at = max(at, self._ticks() - LATE_SHARE * spacing)

    async def next_free(self, key: str, per_minute: float) -> tuple[float, float]:
        """Return in how many seconds the next free step is, and how far apart steps are."""
        gap = MINUTE / (per_minute * SHARE)
        return await self._store.next_free(key, gap), gap

    async def hold(self, key: str, seconds: float) -> None:
        """Make everybody wait: the upstream said that it was too fast."""
        await self._store.hold(key, min(seconds, LONGEST_HOLD_SECONDS))
