"""A circuit breaker: no calls to a provider while most of them fail. Pure."""

import math
from collections import deque
from enum import StrEnum

WINDOW_SECONDS = 30.0
MIN_CALLS = 20
FAILED_SHARE = 0.5
OPEN_SECONDS = 15.0  # before the first probe; doubled after each probe that fails
MAX_OPEN_SECONDS = 240.0
# A probe whose result is never recorded, because its caller went away, expires.
PROBE_SECONDS = 60.0


class State(StrEnum):
    CLOSED = "closed"  # calls are allowed
    OPEN = "open"
    HALF_OPEN = "half_open"  # one probe is under way


class Breaker:
    """`try_acquire` is called before a call, `record` after it. `now` is a monotonic clock."""

    def __init__(self) -> None:
        self.state = State.CLOSED
        self._calls: deque[tuple[float, bool]] = deque()
        self._failures = 0  # among `_calls`
        self._open_seconds = OPEN_SECONDS
        self._closed_until = 0.0
        self._probed_at = -math.inf

    def open_for(self, now: float) -> float:
        """Return for how many seconds no call is allowed, or 0. Changes nothing."""
        return 0.0 if self.state is State.CLOSED else max(0.0, self._closed_until - now)

    def try_acquire(self, now: float) -> float:
        """Return 0 if a call may be made now, else in how many seconds to ask again.

        If the breaker is open, the 0 is for one call: the probe.
        """
        if seconds := self.open_for(now):
            return seconds
        if self.state is State.OPEN:
            self._probed_at = now
        if self.state is not State.CLOSED:
            self.state = State.HALF_OPEN
            self._closed_until = now + PROBE_SECONDS
        return 0.0

    def record(self, now: float, *, success: bool, began: float | None = None) -> None:
        """Record the result of a call. Calls that `began` before the probe are ignored."""
        if began is not None and began < self._probed_at:
            return
        if self.state is State.HALF_OPEN:
            if success:
                self.state, self._open_seconds = State.CLOSED, OPEN_SECONDS
                self._forget()
            else:
                self._open_seconds = min(self._open_seconds * 2, MAX_OPEN_SECONDS)
                self._open(now)
        elif self.state is State.CLOSED:
            self._count(now, success=success)
            count = len(self._calls)
            if count >= MIN_CALLS and self._failures >= FAILED_SHARE * count:
                self._open(now)

    def _count(self, now: float, *, success: bool) -> None:
        self._calls.append((now, success))
        self._failures += not success
        while self._calls[0][0] <= now - WINDOW_SECONDS:
            _, was_success = self._calls.popleft()
            self._failures -= not was_success

    def _open(self, now: float) -> None:
        self.state = State.OPEN
        self._closed_until = now + self._open_seconds
        self._forget()

    def _forget(self) -> None:
        self._calls.clear()
        self._failures = 0
