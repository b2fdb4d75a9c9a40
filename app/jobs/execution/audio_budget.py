"""How much sound a process holds that waits for engines: one bound for all its jobs."""

import asyncio
from collections import deque
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Allocation:
    """Sound of one part. It may become smaller, and is given back once."""

    share: "RunShare"
    bytes: int

    def shrink(self, size: int) -> None:
        """Say how many bytes it has become."""
        self.share.change(size - self.bytes)
        self.bytes = size

    def give_back(self) -> None:
        """Say that it is no longer there."""
        self.shrink(0)


@dataclass(eq=False, slots=True)
class _Waiting:
    share: "RunShare"
    bytes: int
    granted: asyncio.Future[None]


@dataclass(eq=False, slots=True)
class RunShare:
    """What one run holds of the bound."""

    budget: "AudioBudget"
    bytes: int = 0

    async def take(self, size: int) -> Allocation:
        """Wait until there is room for so many bytes; whoever holds nothing never waits."""
        await self.budget.room(self, size)
        return Allocation(self, size)

    def change(self, by: int) -> None:
        self.bytes += by
        self.budget.changed(by)


@dataclass(eq=False, slots=True)
class AudioBudget:
    """Room for `most` bytes, in the order in which it is asked for.

    A run that holds nothing gets one part whatever the others hold: nobody waits for ever.
    """

    most: int
    used: int = 0
    _queue: deque[_Waiting] = field(default_factory=deque)

    async def room(self, share: RunShare, size: int) -> None:
        """Take so many bytes for a share; see Share.take."""
        if not share.bytes or (not self._queue and self.used + size <= self.most):
            self._grant(share, size)
            return
        waiting = _Waiting(share, size, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        try:
            await waiting.granted
        except asyncio.CancelledError:
            if waiting in self._queue:
                self._queue.remove(waiting)
                self._serve()
            elif not waiting.granted.cancelled():
                share.change(-size)
            raise

    def changed(self, by: int) -> None:
        """Take in that so many bytes more, or fewer, are held."""
        self.used += by
        if by < 0:
            self._serve()

    def _serve(self) -> None:
        is_first = True
        for waiting in list(self._queue):
            fits = is_first and self.used + waiting.bytes <= self.most
            if fits or not waiting.share.bytes:
                self._queue.remove(waiting)
                self._grant(waiting.share, waiting.bytes)
                waiting.granted.set_result(None)
            else:
                is_first = False

    def _grant(self, share: RunShare, size: int) -> None:
        share.bytes += size
        self.used += size
