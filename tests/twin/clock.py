"""The twin's time: it may run faster than ours, so that minutes of rate limits fit into a test."""

import time
from collections.abc import Callable


class Clock:
    """Seconds since the twin was born, times `scale`."""

    def __init__(self, scale: float = 1.0, ticks: Callable[[], float] = time.monotonic) -> None:
        self.scale = scale
        self._ticks = ticks
        self._born = ticks()

    def now(self) -> float:
        return (self._ticks() - self._born) * self.scale

    def real_seconds(self, scaled: float) -> float:
        """Return how long a client has to wait for so many of the twin's seconds."""
        return scaled / self.scale
