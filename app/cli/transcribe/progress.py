"""How far a batch of recordings is, in seconds of audio, told so that it never goes back. Pure."""

import time
from collections.abc import Callable
from dataclasses import dataclass

NEARLY = 0.995  # the most that is told before the last recording has ended


@dataclass(frozen=True, slots=True)
class ProgressState:
    """Seconds of audio done, seconds in all as far as known, the share of both, seconds left.

    `left` is by the clock, and None until something is done.
    """

    done: float
    total: float
    share: float
    left: float | None


class ProgressTracker:
    """The progress of recordings, by their index. A failed recording counts as done."""

    def __init__(self, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds: list[float | None] = [None] * count
        self._shares = [0.0] * count
        self._ended = [False] * count
        self._clock, self._began = clock, clock()
        self._done = self._share = 0.0

    def learn(self, index: int, seconds: float) -> None:
        """Take a recording's length; the first one told counts, or the bar would jump."""
        if self._seconds[index] is None:
            self._seconds[index] = max(0.0, seconds)

    def tell(self, index: int, share: float) -> None:
        """Take the share of a recording that is done; less than before is passed over."""
        self._shares[index] = max(self._shares[index], min(1.0, share))

    def end(self, index: int) -> None:
        """Count a recording as done; without a known length it adds no seconds."""
        self._ended[index], self._shares[index] = True, 1.0
        self.learn(index, 0.0)

    def standing(self) -> ProgressState:
        """Return where the batch stands by now."""
        known = [seconds for seconds in self._seconds if seconds is not None]
        usual = sum(known) / len(known) if known else 0.0  # of one that is not known yet
        lengths = [usual if seconds is None else seconds for seconds in self._seconds]
        done = sum(length * share for length, share in zip(lengths, self._shares, strict=True))
        self._done = max(self._done, done)
        total = max(sum(lengths), self._done)
        self._share = max(self._share, self._share_of(total))
        return ProgressState(self._done, total, self._share, self._left())

    def _share_of(self, total: float) -> float:
        if all(self._ended):
            return 1.0
        return min(NEARLY, self._done / total) if total else 0.0

    def _left(self) -> float | None:
        if not self._share:
            return None
        return (self._clock() - self._began) * (1 - self._share) / self._share
