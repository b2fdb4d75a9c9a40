"""The progress of a batch of recordings in seconds of audio, which never decreases."""

import time
from collections.abc import Callable
from dataclasses import dataclass

NEARLY = 0.995  # the largest share before the last recording has ended


@dataclass(frozen=True, slots=True)
class ProgressState:
    """Seconds of audio done, known seconds in total, their ratio, and the expected time left.

    `left` is in seconds; None until a part of the audio is done.
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
        """Set the length of a recording, unless it is set: the bar must not jump."""
        if self._seconds[index] is None:
            self._seconds[index] = max(0.0, seconds)

    def advance(self, index: int, share: float) -> None:
        """Set the share of a recording that is done; a smaller share than before is ignored."""
        self._shares[index] = max(self._shares[index], min(1.0, share))

    def end(self, index: int) -> None:
        """Count a recording as done; without a known length it adds no seconds."""
        self._ended[index], self._shares[index] = True, 1.0
        self.learn(index, 0.0)

    def state(self) -> ProgressState:
        """Return the progress of the batch."""
        known = [seconds for seconds in self._seconds if seconds is not None]
        usual = sum(known) / len(known) if known else 0.0  # for unknown lengths
        lengths = [usual if seconds is None else seconds for seconds in self._seconds]
        done = sum(length * share for length, share in zip(lengths, self._shares, strict=True))
        self._done = max(self._done, done)
        total = max(sum(lengths), self._done)
        share = min(NEARLY, self._done / total) if total else 0.0
        self._share = 1.0 if all(self._ended) else max(self._share, share)
        passed = self._clock() - self._began
        left = passed * (1 - self._share) / self._share if self._share else None
        return ProgressState(self._done, total, self._share, left)
