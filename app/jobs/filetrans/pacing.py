"""How long a job that waits for an upstream's task pauses, so that thousands may wait at once."""

import asyncio
from random import Random

from app.settings import JobSettings

GROWTH = 4.0  # a task is asked for again after this part of its age
SPREAD = 0.2  # so far a pause is off, for what began together not to stay together
BEGIN_SECONDS = 2.0  # at least, before a job looks again whether it may begin
FORGOTTEN_SECONDS = 300.0  # after its time a job is taken to be somebody else's
SHARE = 0.9  # of what is allowed: pauses are no timetable
LEARNT = 0.1  # what one begin says of how long they take


class PollPacing:
    """Counts who waits in this process; `rng` spreads them."""

    def __init__(self, settings: JobSettings, rng: Random) -> None:
        self._settings = settings
        self._rng = rng
        self._polls: dict[str, float] = {}
        self._begins: dict[str, float] = {}
        self._begin_seconds = 0.1

    def jittered(self, seconds: float) -> float:
        """Return about so many seconds."""
        return seconds * self._rng.uniform(1 - SPREAD, 1 + SPREAD)

    def before_poll(self, job_id: str, age: float, a_second: float) -> float:
        """Return the pause of a task of this age: growing, and longer where many of them wait.

        `a_second` is how many of all of them may be asked for.
        """
        self._begins.pop(job_id, None)
        least, most = self._settings.poll_interval_seconds, self._settings.max_poll_interval_seconds
        usual = min(max(least, age / GROWTH), max(least, most))
        fair = len(self._polls) / (a_second * SHARE)
        return self._noted(self._polls, job_id, self.jittered(max(usual, fair)))

    def before_begin(self, job_id: str, at_once: int) -> float:
        """Return when it may be the turn of a job that found all places taken."""
        turn = len(self._begins) * self._begin_seconds / at_once
        return self._noted(self._begins, job_id, self.jittered(max(BEGIN_SECONDS, turn)))

    def note_begin(self, job_id: str, seconds: float) -> None:
        """Learn how long a job had its place."""
        self._begins.pop(job_id, None)
        self._begin_seconds += LEARNT * (seconds - self._begin_seconds)

    def forget(self, job_id: str) -> None:
        """Let a job that waits no more lengthen nobody's pause."""
        self._polls.pop(job_id, None)
        self._begins.pop(job_id, None)

    def _noted(self, waiting: dict[str, float], job_id: str, seconds: float) -> float:
        now = asyncio.get_running_loop().time()
        waiting.pop(job_id, None)
        waiting[job_id] = now + seconds
        oldest = next(iter(waiting))
        if waiting[oldest] + FORGOTTEN_SECONDS < now:
            del waiting[oldest]
        return seconds
