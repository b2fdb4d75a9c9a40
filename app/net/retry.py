"""The retry budget of a provider: a share of its calls, so that an outage is not made worse. Pure.

A durable job can wait, so a retry beyond the budget is deferred and never given up.
"""

from collections import deque

WINDOW_SECONDS = 60.0
RETRY_SHARE = 0.1  # of the calls of the last minute
MIN_RETRIES = 10  # in a minute with few calls


class RetryBudget:
    """The retries of one provider. `now` is a monotonic clock."""

    def __init__(self) -> None:
        self._calls: deque[float] = deque()
        self._retries: deque[float] = deque()

    def record_call(self, now: float) -> None:
        """Count a call. A retry counts as well."""
        self._calls.append(now)
        _drop_old(self._calls, now)

    def reserve(self, now: float) -> float:
        """Reserve a retry. Return in how many seconds it may be made."""
        _drop_old(self._retries, now)
        _drop_old(self._calls, now)
        allowed = max(MIN_RETRIES, int(len(self._calls) * RETRY_SHARE))
        at = now
        if len(self._retries) >= allowed:
            at = max(now, self._retries[-allowed] + WINDOW_SECONDS)
        self._retries.append(at)
        return at - now


def _drop_old(moments: deque[float], now: float) -> None:
    while moments and moments[0] <= now - WINDOW_SECONDS:
        moments.popleft()
