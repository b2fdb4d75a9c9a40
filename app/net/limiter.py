"""How fast one account may call one model: even steps of time, shared by all who use them.

The upstream punishes bursts, so nothing is saved up: a step that nobody took is gone, and after
a start the first one has to be waited for as well. The state is behind a small store: in memory
for one process, in a row of a database (app/db/rate_limit.py) for several. Who waits in this
process with the highest priority goes first, on whosever step it is.
"""

import asyncio
import heapq
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

Ticks = Callable[[], float]
"""Seconds of a clock that never goes back."""

MINUTE = 60.0
SHARE = 0.98  # of the allowed rate: steps arrive a little closer together than they left
LOOK_SECONDS = 0.25  # before a step it is looked whether a block came; half an interval, if less
LONGEST_WAIT_SECONDS = 1e6
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

    async def hold(self, key: str, seconds: float) -> None:
        """Let no step be before so many seconds from now; those taken already are void."""

    async def holds(self, key: str) -> int:
        """Return how many holds there have been."""


@dataclass(slots=True)
class _Steps:
    free_at: float
    blocked_until: float = 0.0
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

    async def hold(self, key: str, seconds: float) -> None:
        """Void the steps taken and let none be for so many seconds."""
        steps = self._steps.setdefault(key, _Steps(self._began))
        steps.free_at = max(steps.blocked_until, self._ticks() + seconds)
        steps.blocked_until = steps.free_at
        steps.holds += 1

    async def holds(self, key: str) -> int:
        """Return how many holds there have been."""
        return self._steps[key].holds if key in self._steps else 0


@dataclass(slots=True)
class _Exit:
    """The last call of a key that left this process."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    left_at: float = -math.inf


_Waiting = tuple[int, int, "asyncio.Future[Exception | None]"]


@dataclass(slots=True)
class _Queue:
    """The calls of one key that wait for a step in this process, by priority.

    `pacer` takes one step after the other and lets the first call of the queue go on each.
    `next_at` is the tick of the step it has taken, while it has one. `is_void`: a block that came
    from this process meanwhile has made that step void.
    """

    waiting: list[_Waiting] = field(default_factory=list)
    pacer: asyncio.Task[None] | None = None
    next_at: float | None = None
    is_void: bool = False

    def put(self, entry: _Waiting) -> None:
        heapq.heappush(self.waiting, entry)

    def discard(self, entry: _Waiting) -> None:
        if entry in self.waiting:
            self.waiting.remove(entry)
            heapq.heapify(self.waiting)

    def let_go(self) -> None:
        """Let the first call go that is still waiting."""
        while self.waiting:
            future = heapq.heappop(self.waiting)[-1]
            if not future.done():
                future.set_result(None)
                return

    def fail(self, error: Exception) -> None:
        """Let every waiting call raise this error."""
        for *_, future in self.waiting:
            if not future.done():
                future.set_result(error)


class Limiter:
    """Makes calls wait for their step. One for all engines of a process."""

    def __init__(self, store: StepStore, ticks: Ticks = time.monotonic) -> None:
        self._store = store
        self._ticks = ticks
        self._exits: dict[str, _Exit] = {}
        self._queues: dict[str, _Queue] = {}
        self._numbers = itertools.count()

    async def try_take(self, key: str, per_minute: float) -> bool:
        """Take a step if one is free now and no call of this process waits for one.

        Never waits for other calls. Raises DatabaseAway where the steps are rows of a database.
        """
        if key in self._queues:
            return False
        _, blocks = await self._store.take(key, MINUTE / (per_minute * SHARE), 0.0)
        return blocks is not None

    async def wait(self, key: str, per_minute: float, timeout: float, priority: int = 0) -> None:  # noqa: ASYNC109 - a rate limit's own timeout, raised as QueueTooLongError
        """Wait for a step, behind all waiting calls of a higher or the same priority.

        Raises QueueTooLongError at once where the step is more than `timeout` seconds away, and
        after `timeout` where calls of a higher priority came meanwhile.
        """
        until = self._ticks() + timeout
        interval = MINUTE / (per_minute * SHARE)
        if key not in self._queues:
            seconds, blocks = await self._store.take(key, interval, 0.0)
            if blocks is not None:
                return
            if seconds > timeout:
                raise QueueTooLongError(seconds)
        queue = self._queues.setdefault(key, _Queue())
        if queue.next_at is not None:
            ahead = sum(-rank >= priority for rank, *_ in queue.waiting)
            seconds = queue.next_at - self._ticks() + ahead * interval
            if seconds > timeout:
                raise QueueTooLongError(seconds)
        future: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        entry = (-priority, next(self._numbers), future)
        queue.put(entry)
        if queue.pacer is None:
            queue.pacer = asyncio.create_task(self._let_go_in_turn(key, interval, queue))
        try:
            async with asyncio.timeout(until - self._ticks()):
                error = await future
        except TimeoutError:
            raise QueueTooLongError(timeout + interval) from None
        finally:
            queue.discard(entry)
            if not queue.waiting:
                self._close(key, queue)
                queue.pacer.cancel()
        if error is not None:
            raise error

    async def _let_go_in_turn(self, key: str, interval: float, queue: _Queue) -> None:
        """Take steps and let one waiting call go on each, until no call waits."""
        try:
            while queue.waiting:
                seconds, blocks = await self._store.take(key, interval, LONGEST_WAIT_SECONDS)
                queue.is_void = False
                queue.next_at = self._ticks() + seconds
                # Another process may block the key meanwhile. That is looked for a little before
                # the step, because looking takes time.
                early = seconds - min(LOOK_SECONDS, interval / 2)
                if early > 0:
                    await asyncio.sleep(early)
                    if await self._store.holds(key) != blocks:
                        continue
                await asyncio.sleep(queue.next_at - self._ticks())
                if not queue.is_void:
                    queue.let_go()
        except Exception as error:  # noqa: BLE001 - each waiting call raises it
            queue.fail(error)
        finally:
            self._close(key, queue)

    def _close(self, key: str, queue: _Queue) -> None:
        if self._queues.get(key) is queue:
            del self._queues[key]

    async def leave(self, key: str, per_minute: float) -> None:
        """Wait until the last call that left is an interval away.

        Steps are even, but a stall or a slow commit between a step and its call joins calls.
        """
        door, interval = self._exits.setdefault(key, _Exit()), MINUTE / (per_minute * OUT_SHARE)
        async with door.lock:
            at = door.left_at + interval
            await asyncio.sleep(max(0.0, at - self._ticks()))
            door.left_at = max(at, self._ticks() - LATE_SHARE * interval)

    async def hold(self, key: str, seconds: float) -> None:
        """Make every call wait: the upstream said that it was too fast."""
        await self._store.hold(key, min(seconds, LONGEST_HOLD_SECONDS))
        if (queue := self._queues.get(key)) is not None:
            queue.is_void = True
