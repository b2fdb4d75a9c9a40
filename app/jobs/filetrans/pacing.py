"""The pauses of jobs that wait for tasks of a provider, so that thousands may wait at once."""

import asyncio
from random import Random

from app.settings import JobSettings

GROWTH = 4.0  # a task is polled again after its age divided by this
JITTER = 0.2  # share by which a pause varies: tasks that began together are polled apart
MIN_SUBMIT_PAUSE_SECONDS = 2.0
EXPIRY_SECONDS = 300.0  # after its pause a job without news is taken to run in another process
RATE_SHARE = 0.9  # of the account's polls that are planned with: pauses are not exact
SMOOTHING = 0.1  # weight of the newest submit in the average of their lengths


class PollPacing:
    """Computes pauses from the jobs that wait in this process."""

    def __init__(self, settings: JobSettings, rng: Random) -> None:
        self._settings = settings
        self._rng = rng
        self._polling: dict[str, float] = {}
        self._submitting: dict[str, float] = {}
        self._submit_seconds = 0.1

    def jittered(self, seconds: float) -> float:
        """Return the seconds, varied by at most JITTER."""
        return seconds * self._rng.uniform(1 - JITTER, 1 + JITTER)

    def before_poll(self, job_id: str, age: float, polls_per_second: float) -> float:
        """Return the pause before the next poll of a task of this age, in seconds.

        It grows with the age, and with the number of tasks that share `polls_per_second`.
        """
        self._submitting.pop(job_id, None)
        least, most = self._settings.poll_interval_seconds, self._settings.max_poll_interval_seconds
        usual = min(max(least, age / GROWTH), max(least, most))
        fair = len(self._polling) / (polls_per_second * RATE_SHARE)
        return self._noted(self._polling, job_id, self.jittered(max(usual, fair)))

    def before_submit(self, job_id: str, slots: int) -> float:
        """Return the seconds until a job that found no free slot tries again to submit its task.

        They grow with the number of jobs that wait to submit and with the duration of a submit.
        """
        turn = len(self._submitting) * self._submit_seconds / slots
        pause = self.jittered(max(MIN_SUBMIT_PAUSE_SECONDS, turn))
        return self._noted(self._submitting, job_id, pause)

    def note_submit(self, job_id: str, seconds: float) -> None:
        """Count how long a job held its slot."""
        self._submitting.pop(job_id, None)
        self._submit_seconds += SMOOTHING * (seconds - self._submit_seconds)

    def forget(self, job_id: str) -> None:
        """Leave a job that no longer waits out of all further pauses."""
        self._polling.pop(job_id, None)
        self._submitting.pop(job_id, None)

    def _noted(self, waiting: dict[str, float], job_id: str, seconds: float) -> float:
        now = asyncio.get_running_loop().time()
        waiting.pop(job_id, None)
        waiting[job_id] = now + seconds
        oldest = next(iter(waiting))
        if waiting[oldest] + EXPIRY_SECONDS < now:
            del waiting[oldest]
        return seconds
