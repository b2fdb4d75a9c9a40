"""How fast one account may call one model: even steps of time, shared by all who use them.

The upstream punishes bursts, so nothing is saved up: a step that nobody took is gone, and after
a start the first one has to be waited for as well. The state is behind a small store: in memory
for one process, in a row of a database (app/db/rate_limit.py) for several. Who waits in this
process with the highest priority goes first, on whosever step it is.
"""

import asyncio
import itertools
import math
import time
from collections.abc import Callable
from contextlib import suppress
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


@dataclass(slots=True, eq=False)
class _Turn:
    """A caller with a step at this tick; the smallest `rank` of all `goes` first."""

    rank: tuple[int, int]
    at: float
    holds: int | None
    goes: asyncio.Event = field(default_factory=asyncio.Event)

    async def sleep(self, seconds: float) -> None:
        """Sleep so long, or until the caller is let go on another's step."""
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.goes.wait(), seconds)

    def let_go(self, other: "_Turn") -> None:
        """Let another caller go on this step, and wait for theirs instead."""
        self.at, self.holds = other.at, other.holds
        other.goes.set()


class Limiter:
    """Makes callers wait for their step. One for all engines of a process."""

    def __init__(self, store: StepStore, ticks: Ticks = time.monotonic) -> None:
        self._store = store
        self._ticks = ticks
        self._doors: dict[str, _Door] = {}
        self._lines: dict[str, set[_Turn]] = {}
        self._numbers = itertools.count()

    async def wait(self, key: str, per_minute: float, patience: float, priority: int = 0) -> None:
        """Sleep until the caller's step, and again where a hold came meanwhile.

        Raises QueueTooLongError where that would be longer than `patience` seconds.
        """
        until = self._ticks() + patience
        gap = MINUTE / (per_minute * SHARE)
        line, rank = self._lines.setdefault(key, set()), (-priority, next(self._numbers))
        while True:
            seconds, holds = await self._store.take(key, gap, until - self._ticks())
            if holds is None:
                raise QueueTooLongError(seconds)
            turn = _Turn(rank, self._ticks() + seconds, holds)
            line.add(turn)
            try:
                if await self._comes(key, turn, line, gap, until):
                    return
            finally:
                line.discard(turn)

    async def _comes(
        self, key: str, turn: _Turn, line: set[_Turn], gap: float, until: float
    ) -> bool:
        """Sleep until the turn comes; False where a hold voided it."""
        while not turn.goes.is_set():
            # Asking takes time, too: a little early, so that the step itself is met.
            before = turn.at - min(ASK_SECONDS, gap / 2) - self._ticks()
            await turn.sleep(before)
            if before > 0 and not turn.goes.is_set():
                is_void = await self._store.holds(key) != turn.holds
                if is_void and not turn.goes.is_set():
                    return False
            await turn.sleep(turn.at - self._ticks())
            first = min(line, key=lambda one: one.rank, default=turn)
            if turn.goes.is_set() or first is turn:
                return True
            line.discard(first)
            turn.let_go(first)
            if turn.at > until:
                raise QueueTooLongError(turn.at - self._ticks())
        return True

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
