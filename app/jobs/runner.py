"""Runs the jobs of this process: those its callers wait for, and those nobody works on.

The `transcription` table is the truth; what is here may be lost at any moment. On start, and
each minute, open jobs without a living worker are taken up again.
"""

import asyncio
from collections.abc import Coroutine

import structlog

from app.audio.store import BlobStore
from app.db.engine import Database
from app.errors import DatabaseAway, ShuttingDown, TooManyJobs
from app.jobs import erase, find, runs
from app.jobs.runs import Job
from app.jobs.transcribe import Transcriber
from app.kit.clock import Clock
from app.settings import JobSettings

POLL_SECONDS = 0.5
FORSAKEN_AT_ONCE = 200
RETRY_AFTER_SECONDS = 5

log = structlog.get_logger()


class Runner:
    """At most `at_once` jobs run; the others of this process wait for their turn."""

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        transcriber: Transcriber,
        *,
        settings: JobSettings,
        clock: Clock,
    ) -> None:
        self._db = db
        self._store = store
        self._transcriber = transcriber
        self._settings = settings
        self._now = clock
        self._slots = asyncio.Semaphore(settings.at_once)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._rescue: asyncio.Task[None] | None = None
        self._waits: set[asyncio.Timeout] = set()
        self.is_closing = False

    async def start(self, *, alone: bool) -> None:
        """Begin looking for forsaken jobs; `alone` on a database no other process can share."""
        if alone:
            await self._db.write(runs.clear_leases)
        self._rescue = asyncio.create_task(self._rescue_loop())

    async def reserve(self) -> bool:
        """Take a slot if one is free, for a job about to be submitted as already claimed.

        Raises TooManyJobs or ShuttingDown where no job may be accepted now.
        """
        if self.is_closing:
            raise ShuttingDown(retry_after=RETRY_AFTER_SECONDS)
        if len(self._tasks) >= self._settings.max_waiting:
            raise TooManyJobs(retry_after=RETRY_AFTER_SECONDS)
        if self._slots.locked():
            return False
        await self._slots.acquire()
        return True

    def unreserve(self) -> None:
        """Give a reserved slot back: nothing was submitted."""
        self._slots.release()

    def begin(self, job_id: str, claimed: Job | None) -> None:
        """Run a submitted job; a `claimed` one uses the slot that was reserved for it."""
        work = self._in_slot(job_id) if claimed is None else self._claimed(job_id, claimed)
        self._track(job_id, work)

    async def wait(self, job_id: str, seconds: float) -> bool:
        """Wait until the job has ended, here or elsewhere; False when the time is over."""
        limit = asyncio.timeout(seconds)
        self._waits.add(limit)
        try:
            async with limit:
                while not await self._has_ended(job_id):
                    await self._step(job_id)
                return True
        except TimeoutError:
            return await self._has_ended(job_id)
        finally:
            self._waits.discard(limit)

    def begin_closing(self, seconds: float) -> None:
        """Accept nothing more, and let nobody wait longer than these seconds."""
        self.is_closing = True
        latest = asyncio.get_running_loop().time() + seconds
        for limit in self._waits:
            if (limit.when() or latest) >= latest:
                limit.reschedule(latest)

    async def drain(self, seconds: float) -> None:
        """Let running jobs finish for so long, then hand back what is left."""
        self.is_closing = True
        if self._rescue is not None:
            self._rescue.cancel()
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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
        task.add_done_callback(lambda _: self._tasks.pop(job_id, None))

    async def _in_slot(self, job_id: str) -> None:
        await self._slots.acquire()
        await self._claimed(job_id, None)

    async def _claimed(self, job_id: str, claimed: Job | None) -> None:
        try:
            while (again := await self._transcriber.advance(job_id, claimed)) is not None:
                claimed = None
                await asyncio.sleep(again.total_seconds())
        finally:
            self._slots.release()

    async def _rescue_loop(self) -> None:
        while True:
            try:
                await self._take_up_forsaken()
                await self.purge()
            except (DatabaseAway, OSError):
                log.exception("rescue.failed")
            await asyncio.sleep(self._settings.rescue_seconds)

    async def _take_up_forsaken(self) -> None:
        for job_id in await self._db.read(runs.forsaken, limit=FORSAKEN_AT_ONCE):
            if job_id not in self._tasks:
                log.info("job.taken_up", job=job_id)
                self._track(job_id, self._in_slot(job_id))

    async def purge(self) -> None:
        """Remove from the store the bytes of audio that was erased."""
        for audio_id, blob_key in await self._db.read(erase.unpurged):
            await self._store.erase(blob_key)
            await self._db.write(erase.mark_purged, audio_id, now=self._now())
