"""A semaphore that gives a free slot to the waiter with the highest priority."""

import asyncio
import heapq
import itertools


class PrioritySemaphore:
    """A semaphore whose waiters have priorities: larger ones first, equal ones in their order."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    @property
    def free(self) -> int:
        """The number of slots that can be taken now without waiting."""
        return self._free

    def take_free(self) -> bool:
        """Take a slot if one is free. Return whether it was taken."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    async def take(self, priority: int = 0) -> None:
        """Wait for a slot and take it."""
        if self.take_free():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-priority, next(self._numbers), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()  # it was handed over at the moment of the cancellation
            turn.cancel()
            raise

    def give(self) -> None:
        """Release a slot directly to the next waiter, so that no other caller can take it first."""
        while self._waiting:
            turn = heapq.heappop(self._waiting)[-1]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
