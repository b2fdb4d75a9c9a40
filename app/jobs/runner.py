"""Runs the jobs of this process: those its callers wait for, and those nobody works on.

The `transcription` table is the truth; what is here may be lost at any moment.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress

from app.db.engine import Database
from app.errors import ShuttingDown, TooManyJobs
from app.jobs import find
from app.jobs.runs import Job
from app.jobs.transcribe import Transcriber
from app.settings import JobSettings

POLL_SECONDS = 0.5
RETRY_AFTER_SECONDS = 5


class Runner:
    """At most `at_once` jobs run; the others of this process wait for their turn."""

    def __init__(self, db: Database, transcriber: Transcriber, settings: JobSettings) -> None:
        self._db = db
        self._transcriber = transcriber
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.at_once)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._accepted: set[str] = set()
        self._waits: set[asyncio.Timeout] = set()
        self._end_of_grace: float | None = None
        self._closing = asyncio.Event()

    @property
    def is_closing(self) -> bool:
        """Whether no more jobs are accepted."""
        return self._end_of_grace is not None

    def check_room(self) -> None:
        """Raise TooManyJobs or ShuttingDown where no job may be accepted now."""
        if self.is_closing:
            raise ShuttingDown(retry_after=RETRY_AFTER_SECONDS)
        if len(self._accepted) >= self._settings.max_waiting:
            raise TooManyJobs(retry_after=RETRY_AFTER_SECONDS)

    async def reserve(self) -> bool:
        """Take a slot if one is free, for a job about to be submitted as already claimed.

        Raises as `check_room` does.
        """
        self.check_room()
        if self._slots.locked():
            return False
        await self._slots.acquire()
        return True

    def unreserve(self) -> None:
        """Give a reserved slot back: nothing was submitted."""
        self._slots.release()

    def begin(self, job_id: str, claimed: Job | None) -> None:
        """Run a submitted job; a `claimed` one uses the slot that was reserved for it."""
        self._accepted.add(job_id)
        work = self._in_slot(job_id) if claimed is None else self._run(job_id, claimed)
        self._track(job_id, work)

    def take_up(self, job_id: str) -> bool:
        """Run a job that was found without a worker; False if this process has it already."""
        if job_id in self._tasks:
            return False
        self._track(job_id, self._in_slot(job_id))
        return True

    async def wait(self, job_id: str, seconds: float) -> bool:
        """Wait until the job has ended, here or elsewhere; False when the time is over."""
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                self._waits.add(limit)
                self._shorten(limit)
                while not await self._has_ended(job_id):
                    await self._step(job_id)
                return True
        except TimeoutError:
            return await self._has_ended(job_id)
        finally:
            self._waits.discard(limit)

    def begin_closing(self, seconds: float) -> None:
        """Accept nothing more, and let nobody wait longer than these seconds."""
        self._end_of_grace = asyncio.get_running_loop().time() + seconds
        self._closing.set()  # jobs that wait, wait in their rows
        for limit in self._waits:
            self._shorten(limit)

    async def drain(self, seconds: float) -> None:
        """Let jobs run for what is left of the grace, then hand them back."""
        if not self.is_closing:
            self.begin_closing(seconds)
        left = (self._end_of_grace or 0.0) - asyncio.get_running_loop().time()
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, left))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _shorten(self, limit: asyncio.Timeout) -> None:
        end = self._end_of_grace
        if end is not None and (limit.when() or end) >= end:
            limit.reschedule(end)

    async def _has_ended(self, job_id: str) -> bool:
        if job_id in self._tasks:
            return False
        return await self._db.read(find.has_ended, job_id)

    async def _step(self, job_id: str) -> None:
        task = self._tasks.get(job_id)
        if task is None:
            await asyncio.sleep(POLL_SECONDS)
        else:
            await asyncio.wait({task})

    def _track(self, job_id: str, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name=f"job {job_id}")
        self._tasks[job_id] = task
        task.add_done_callback(lambda _: self._forget(job_id))

    def _forget(self, job_id: str) -> None:
        self._tasks.pop(job_id, None)
        self._accepted.discard(job_id)

    async def _in_slot(self, job_id: str) -> None:
        await self._slots.acquire()
        await self._run(job_id, None)

    async def _run(self, job_id: str, claimed: Job | None) -> None:
        """Advance a job, in a slot that is held already; a job that waits gives its slot up."""
        while True:
            try:
                again = await self._transcriber.advance(job_id, claimed)
            finally:
                self._slots.release()
            claimed = None
            if again is None or await self._closes_within(again.total_seconds()):
                return
            await self._slots.acquire()

    async def _closes_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)
        return self.is_closing
