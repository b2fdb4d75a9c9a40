"""The simulator's clock. It may run faster, so that minutes of rate limits fit into a test."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta


class Clock:
    """Seconds since the start of the simulator, times `scale`, plus the seconds of `advance`."""

    def __init__(self, scale: float = 1.0, ticks: Callable[[], float] = time.monotonic) -> None:
        self.scale = scale
        self._ticks = ticks
        self._born = ticks()
        self._born_at = datetime.now(UTC)
        self._skipped = 0.0
        self._turned = asyncio.Event()

    def now(self) -> float:
        return (self._ticks() - self._born) * self.scale + self._skipped

    def moment(self, at: float | None = None) -> datetime:
        """Return the UTC time of the simulator's clock, now or at a time in seconds."""
        return self._born_at + timedelta(seconds=self.now() if at is None else at)

    def real_seconds(self, scaled: float) -> float:
        """Return the real seconds of a number of the simulator's seconds."""
        return scaled / self.scale

    def advance(self, seconds: float) -> None:
        """Advance the clock, and wake all tasks that sleep by it."""
        self._skipped += seconds
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()

    async def sleep_until(self, at: float) -> None:
        while (left := at - self.now()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._turned.wait(), self.real_seconds(left))
