"""The limit of decoded audio in memory, for all jobs of a process.

A run holds a window while it decodes, and each part from its cut until its call has ended.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Allocation:
    """The bytes of one part. They may become fewer, and are released once."""

    share: "RunShare"
    bytes: int

    def shrink(self, size: int) -> None:
        """Release all but `size` bytes."""
        self.share.change(size - self.bytes)
        self.bytes = size

    def release(self) -> None:
        """Release all bytes."""
        self.shrink(0)


@dataclass(eq=False, slots=True)
class _Waiting:
    share: "RunShare"
    bytes: int
    is_window: bool
    granted: asyncio.Future[None]


@dataclass(eq=False, slots=True)
class RunShare:
    """The parts that one run holds."""

    budget: "AudioBudget"
    bytes: int = 0

    async def take(self, size: int) -> Allocation:
        """Wait until a part of `size` bytes fits; the only part of a run never waits."""
        await self.budget.reserve(self, size)
        return Allocation(self, size)

    @asynccontextmanager
    async def window(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes of audio that is being decoded; wait until they fit."""
        await self.budget.reserve(self, size, is_window=True)
        try:
            yield
        finally:
            self.budget.close_window(size)

    def change(self, by: int) -> None:
        self.bytes += by
        self.budget.changed(by)


@dataclass(eq=False, slots=True)
class AudioBudget:
    """Grants `max_bytes` bytes in the order of the requests.

    The limit is exceeded in two cases, so that no run waits for ever: one window is always open,
    and a run without a part gets one. So a run with a window always continues, and closes it.
    """

    max_bytes: int
    used: int = 0
    windows: int = 0
    _queue: deque[_Waiting] = field(default_factory=deque)

    async def reserve(self, share: RunShare, size: int, *, is_window: bool = False) -> None:
        """Reserve `size` bytes for a run's part or window."""
        granted = asyncio.get_running_loop().create_future()
        waiting = _Waiting(share, size, is_window, granted)
        if self._never_waits(waiting) or (not self._queue and self.used + size <= self.max_bytes):
            self._grant(waiting)
            return
        self._queue.append(waiting)
        try:
            await waiting.granted
        except asyncio.CancelledError:
            if waiting in self._queue:
                self._queue.remove(waiting)
                self._serve()
            elif not waiting.granted.cancelled():
                if is_window:
                    self.close_window(size)
                else:
                    share.change(-size)
            raise

    def close_window(self, size: int) -> None:
        """Release the bytes of a window."""
        self.windows -= 1
        self.changed(-size)

    def changed(self, by: int) -> None:
        """Add `by` to the reserved bytes, and grant waiting requests when bytes were released."""
        self.used += by
        if by < 0:
            self._serve()

    def _serve(self) -> None:
        is_first = True
        for waiting in list(self._queue):
            fits = is_first and self.used + waiting.bytes <= self.max_bytes
            if fits or self._never_waits(waiting):
                self._queue.remove(waiting)
                self._grant(waiting)
                waiting.granted.set_result(None)
            else:
                is_first = False

    def _never_waits(self, waiting: _Waiting) -> bool:
        return not (self.windows if waiting.is_window else waiting.share.bytes)

    def _grant(self, waiting: _Waiting) -> None:
        self.used += waiting.bytes
        if waiting.is_window:
            self.windows += 1
        else:
            waiting.share.bytes += waiting.bytes
