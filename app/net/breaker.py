"""Leaves an upstream alone while it is down. Pure: told the time, and what became of calls."""

import math
from collections import deque
from enum import StrEnum

WINDOW_SECONDS = 30.0
LEAST_CALLS = 20
FAILED_SHARE = 0.5
REST_SECONDS = 15.0  # before the first probe; doubled after each that fails
LONGEST_REST_SECONDS = 240.0
# A probe whose end is never told (its caller went away) does not keep the breaker shut for ever.
PROBE_SECONDS = 60.0


class State(StrEnum):
    CLOSED = "closed"  # calls go through
    OPEN = "open"
    HALF_OPEN = "half_open"  # one probe may go, or is under way


class Breaker:
    """`pause` is asked before a call, `note` told after it."""

    def __init__(self) -> None:
        self.state = State.CLOSED
        self._calls: deque[tuple[float, bool]] = deque()
        self._failed = 0  # of those
        self._rest = REST_SECONDS
        self._closed_until = 0.0
        self._probed_at = -math.inf

    def rest(self, now: float) -> float:
        """Return 0 if a call may be prepared now, else in how many seconds to ask again."""
        return 0.0 if self.state is State.CLOSED else max(0.0, self._closed_until - now)

    def pause(self, now: float) -> float:
        """Return 0 if a call may be made now, else in how many seconds to ask again.

        Where the breaker is open, the 0 is for one call: the probe.
        """
        if seconds := self.rest(now):
            return seconds
        if self.state is State.OPEN:
            self._probed_at = now
        if self.state is not State.CLOSED:
            self.state = State.HALF_OPEN
            self._closed_until = now + PROBE_SECONDS
        return 0.0

    def note(self, now: float, *, was_well: bool, began: float | None = None) -> None:
        """Take in how a call ended; what `began` before the probes tells of another day."""
        if began is not None and began < self._probed_at:
            return
        if self.state is State.HALF_OPEN:
            self._judge_probe(now, was_well=was_well)
        elif self.state is State.CLOSED:
            self._count(now, was_well=was_well)
            if self._is_down():
                self._open(now)

    def _judge_probe(self, now: float, *, was_well: bool) -> None:
        if was_well:
            self.state, self._rest = State.CLOSED, REST_SECONDS
            self._forget()
        else:
            self._rest = min(self._rest * 2, LONGEST_REST_SECONDS)
            self._open(now)

    def _count(self, now: float, *, was_well: bool) -> None:
        self._calls.append((now, was_well))
        self._failed += not was_well
        while self._calls[0][0] <= now - WINDOW_SECONDS:
            _, was_long_ago_well = self._calls.popleft()
            self._failed -= not was_long_ago_well

    def _forget(self) -> None:
        self._calls.clear()
        self._failed = 0

    def _is_down(self) -> bool:
        count = len(self._calls)
        return count >= LEAST_CALLS and self._failed >= FAILED_SHARE * count

    def _open(self, now: float) -> None:
        self.state = State.OPEN
        self._closed_until = now + self._rest
        self._forget()
