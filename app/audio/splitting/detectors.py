"""The speech detectors of a process.

Their dependencies (numpy and the model, 60 MB) are imported when the first audio is decoded.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from app.audio.splitting.vad import Detector

T = TypeVar("T")


class Detectors:
    """A bounded set of detectors, each loaded when it is first needed."""

    def __init__(self, count: int, make: Callable[[], "Detector"] | None = None) -> None:
        self._slots = asyncio.Semaphore(count)
        self._idle: deque[Detector] = deque()
        self._make = make

    async def run(self, work: Callable[["Detector"], T]) -> T:
        """Run `work` with a detector in a thread, as soon as a detector is free.

        A cancelled caller returns at once. The detector is free again when the work has ended.
        """
        await self._slots.acquire()
        running = asyncio.ensure_future(asyncio.to_thread(self._run, work))
        running.add_done_callback(lambda _: self._slots.release())
        return await asyncio.shield(running)

    def _run(self, work: Callable[["Detector"], T]) -> T:
        try:
            detector = self._idle.pop()
        except IndexError:
            from app.audio.splitting.vad import SileroDetector  # noqa: PLC0415 - see above

            detector = self._make() if self._make else SileroDetector()
        try:
            return work(detector)
        finally:
            self._idle.append(detector)
