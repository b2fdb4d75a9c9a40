"""The rate of calls of one account to one model: slots at even intervals, shared by all callers.

Providers punish bursts, so unused slots are not saved up, and the first slot comes one interval
after the start. The state is in a SlotStore: in memory for one process, in a database row for
several (app/db/rate_limit.py). The calls that wait in one process take its slots by priority.
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
RATE_SHARE = 0.98  # of the allowed rate: calls arrive a little closer together than they left
DEPARTURE_SHARE = 0.99  # of the allowed rate: calls that were delayed together leave at this rate
LATE_SHARE = 0.1  # of an interval: a call that leaves later than that delays the next one as well
CHECK_SECONDS = 0.25  # before a slot the store is asked for blocks; half an interval, if less
MAX_BLOCK_SECONDS = 60.0
MAX_RESERVE_SECONDS = 1e6


class QueueTooLongError(Exception):
    """The wait for a slot is longer than the caller's timeout. `seconds` is the whole wait."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the next free slot is {seconds:.1f} s away")
        self.seconds = seconds


class SlotStore(Protocol):
    """Keeps the next slot of every rate limit, by one clock for all processes that share the store.

    `limit_id` names a rate limit: the account and the model whose calls share it.
    """

    async def reserve(
        self,
        limit_id: str,
        interval: float,
        timeout: float,  # noqa: ASYNC109 - no timeout of this coroutine
    ) -> tuple[float, int | None]:
        """Reserve the next slot. Return the seconds until then, and the number of blocks so far.

        The number is None if the slot is more than `timeout` seconds away: it is not reserved then.
        """

    async def block(self, limit_id: str, seconds: float) -> None:
        """Void the reserved slots, and allow no slot for so many seconds."""

    async def block_count(self, limit_id: str) -> int:
        """Return the number of blocks so far."""


@dataclass(slots=True)
class _Slots:
    next_at: float
    blocked_until: float = 0.0
    block_count: int = 0


class MemorySlots:
    """A SlotStore for one process."""

    def __init__(self, ticks: Ticks = time.monotonic) -> None:
        self._ticks = ticks
        self._slots: dict[str, _Slots] = {}
        self._began = ticks()

    async def reserve(
        self,
        limit_id: str,
        interval: float,
        timeout: float,  # noqa: ASYNC109 - see SlotStore
    ) -> tuple[float, int | None]:
        """Reserve the next slot; see SlotStore."""
        now = self._ticks()
        slots = self._slots.get(limit_id)
        if slots is None:
            slots = self._slots[limit_id] = _Slots(self._began + interval)
        at = max(slots.next_at, now)
        if at - now > timeout:
            return at - now, None
        slots.next_at = at + interval
        return at - now, slots.block_count

    async def block(self, limit_id: str, seconds: float) -> None:
        """Void the reserved slots; see SlotStore."""
        slots = self._slots.setdefault(limit_id, _Slots(self._began))
        slots.next_at = max(slots.blocked_until, self._ticks() + seconds)
        slots.blocked_until = slots.next_at
        slots.block_count += 1

    async def block_count(self, limit_id: str) -> int:
        """Return the number of blocks so far."""
        return self._slots[limit_id].block_count if limit_id in self._slots else 0


@dataclass(slots=True)
class _Departure:
    """The last call under one rate limit that left this process."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    left_at: float = -math.inf


_Waiting = tuple[int, int, "asyncio.Future[Exception | None]"]
"""Negative priority, number of arrival, and the future that lets the call go or fail."""


@dataclass(slots=True)
class _WaitingCalls:
    """The calls under one rate limit that wait for a slot in this process.

    `pacer` reserves one slot after the other and lets the first waiting call go at each.
    `next_at` is the tick of its reserved slot. `is_void`: a block of this process voided it.
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

    def release_first(self) -> None:
        """Let the first call go that still waits."""
        while self.waiting:
            future = heapq.heappop(self.waiting)[-1]
            if not future.done():
                future.set_result(None)
                return

    def fail(self, error: Exception) -> None:
        """Make every waiting call raise this error."""
        for *_, future in self.waiting:
            if not future.done():
                future.set_result(error)


class RateLimiter:
    """Makes calls wait for their slot. All engines of a process share one. See SlotStore.

    Methods raise DatabaseUnavailable if the slots are rows of a database.
    """

    def __init__(self, store: SlotStore, ticks: Ticks = time.monotonic) -> None:
        self._store = store
        self._ticks = ticks
        self._departures: dict[str, _Departure] = {}
        self._queues: dict[str, _WaitingCalls] = {}
        self._arrivals = itertools.count()

    async def try_acquire(self, limit_id: str, per_minute: float) -> bool:
        """Take a slot if one is free now and no call of this process waits. Never waits itself."""
        if limit_id in self._queues:
            return False
        _, block_count = await self._store.reserve(limit_id, interval_of(per_minute), 0.0)
        return block_count is not None

    async def acquire(
        self,
        limit_id: str,
        per_minute: float,
        timeout: float,  # noqa: ASYNC109 - raised as QueueTooLongError
        priority: int = 0,
    ) -> None:
        """Wait for a slot, after all waiting calls of this process with at least this priority.

        Raises QueueTooLongError: at once if the slot is more than `timeout` seconds away, or after
        `timeout` if calls of a higher priority came meanwhile.
        """
        until = self._ticks() + timeout
        interval = interval_of(per_minute)
        if limit_id not in self._queues:
            seconds, block_count = await self._store.reserve(limit_id, interval, 0.0)
            if block_count is not None:
                return
            if seconds > timeout:
                raise QueueTooLongError(seconds)
        queue = self._queues.setdefault(limit_id, _WaitingCalls())
        if queue.next_at is not None:
            ahead = sum(-rank >= priority for rank, *_ in queue.waiting)
            seconds = queue.next_at - self._ticks() + ahead * interval
            if seconds > timeout:
                raise QueueTooLongError(seconds)
        future: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        entry = (-priority, next(self._arrivals), future)
        queue.put(entry)
        if queue.pacer is None:
            queue.pacer = asyncio.create_task(self._release_at_slots(limit_id, interval, queue))
        try:
            async with asyncio.timeout(until - self._ticks()):
                error = await future
        except TimeoutError:
            raise QueueTooLongError(timeout + interval) from None
        finally:
            queue.discard(entry)
            if not queue.waiting:
                self._close(limit_id, queue)
                queue.pacer.cancel()
        if error is not None:
            raise error

    async def pace_departure(self, limit_id: str, per_minute: float) -> None:
        """Wait until the last call that left is an interval away. Called just before the request.

        Slots are at even intervals, but after a stall or a slow commit several calls are ready at
        the same moment.
        """
        last = self._departures.get(limit_id)
        if last is None:
            last = self._departures[limit_id] = _Departure()
        interval = MINUTE / (per_minute * DEPARTURE_SHARE)
        async with last.lock:
            at = last.left_at + interval
            if (pause := at - self._ticks()) > 0:
                await asyncio.sleep(pause)
            last.left_at = max(at, self._ticks() - LATE_SHARE * interval)

    async def block(self, limit_id: str, seconds: float) -> None:
        """Allow no slot for so many seconds: the provider answered that calls were too fast."""
        await self._store.block(limit_id, min(seconds, MAX_BLOCK_SECONDS))
        if (queue := self._queues.get(limit_id)) is not None:
            queue.is_void = True

    async def _release_at_slots(self, limit_id: str, interval: float, queue: _WaitingCalls) -> None:
        """Reserve slots and let one waiting call go at each, until no call waits."""
        try:
            while queue.waiting:
                seconds, block_count = await self._store.reserve(
                    limit_id, interval, MAX_RESERVE_SECONDS
                )
                queue.is_void = False
                queue.next_at = self._ticks() + seconds
                # Another process may block the calls meanwhile. The store is asked a little before
                # the slot, because asking takes time.
                early = seconds - min(CHECK_SECONDS, interval / 2)
                if early > 0:
                    await asyncio.sleep(early)
                    if await self._store.block_count(limit_id) != block_count:
                        continue
                await asyncio.sleep(queue.next_at - self._ticks())
                if not queue.is_void:
                    queue.release_first()
        except Exception as error:  # noqa: BLE001 - each waiting call raises it
            queue.fail(error)
        finally:
            self._close(limit_id, queue)

    def _close(self, limit_id: str, queue: _WaitingCalls) -> None:
        if self._queues.get(limit_id) is queue:
            del self._queues[limit_id]


def interval_of(per_minute: float) -> float:
    """Return the seconds between two slots at an allowed rate."""
    return MINUTE / (per_minute * RATE_SHARE)
