"""How many retries an upstream is given: a share of its calls, so that an outage is not doubled.

A durable job can wait, so a retry beyond the budget is put off rather than given up.
"""

from collections import deque

WINDOW_SECONDS = 60.0
SHARE = 0.1  # of the calls of the last minute
LEAST_RETRIES = 10  # of a quiet minute, in which a tenth would be none


class RetryBudget:
    """Pure: told the time. One for each upstream."""

    def __init__(self) -> None:
        self._calls: deque[float] = deque()
        self._retries: deque[float] = deque()

    def note_call(self, now: float) -> None:
        """Count a call; a retry is one too."""
        self._calls.append(now)
        _forget(self._calls, now)

    def reserve(self, now: float) -> float:
        """Reserve a retry: return in how many seconds it may be made."""
        _forget(self._retries, now)
        _forget(self._calls, now)
        allowed = max(LEAST_RETRIES, int(len(self._calls) * SHARE))
        at = now
        if len(self._retries) >= allowed:
            at = max(now, self._retries[-allowed] + WINDOW_SECONDS)
        self._retries.append(at)
        return at - now


def _forget(moments: deque[float], now: float) -> None:
    while moments and moments[0] <= now - WINDOW_SECONDS:
        moments.popleft()
