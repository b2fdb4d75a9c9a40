"""A semaphore whose waiters have priorities."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class PrioritySemaphore:
    """Of the waiters the one with the largest priority is next; equals keep their order."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    @property
    def free(self) -> int:
        """The number of slots that can be acquired without waiting."""
        return self._free

    def try_acquire(self) -> bool:
        """Acquire a slot if one is free. Return whether it was acquired."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    async def acquire(self, priority: int = 0) -> None:
        """Wait for a slot and acquire it."""
        if self.try_acquire():
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (-priority, next(self._numbers), waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()  # the slot was passed on at the moment of the cancellation
            waiter.cancel()
            raise

    @asynccontextmanager
    async def holding(self, priority: int = 0) -> AsyncIterator[None]:
        """Hold a slot inside the context."""
        await self.acquire(priority)
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Release a slot. It is passed to the next waiter, so no other caller can acquire it."""
        while self._waiters:
            waiter = heapq.heappop(self._waiters)[-1]
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1
