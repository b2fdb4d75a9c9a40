"""Where the runs of this process tell their text, and its readers find them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial

import sqlalchemy as sa

from app.db.database import Database
from app.errors import DatabaseUnavailable
from app.jobs.store import delta_text
from app.jobs.store.delta_text import UnsavedText
from app.jobs.store.durable_write import write_of_run
from app.jobs.store.events import Event
from app.jobs.store.job import Job, Run
from app.jobs.store.runs import StaleRun, fenced_update
from app.jobs.streaming.buffer import LiveTextBuffer
from app.kit.clock import Clock
from app.kit.log import log
from app.speech.options import STREAM

SAVE_SECONDS = 1.0


class Subscription:
    """The wake-up of one reader. Notifications that come before it runs again are one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_notified = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0

    def notify(self) -> None:
        """Wake the reader, or let its next `wait` return at once."""
        self._is_notified = True
        self._wake()

    def clear(self) -> None:
        """Forget notifications: the reader is about to read all that there is."""
        self._is_notified = False

    async def wait(self, seconds: float) -> None:
        """Return when notified since the last `clear`, or after so many seconds."""
        self._deadline = self._loop.time() + seconds
        # A timer that is set already finds the new deadline by itself: most events need none.
        if self._timer is None or self._timer.when() > self._deadline:
            self._set_timer()
        if not self._is_notified:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        self.close()
        self._timer = self._loop.call_at(self._deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._loop.time() < self._deadline:
            self._set_timer()
        else:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class StreamHub:
    """Knows which runs tell, and wakes who reads of them."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self.is_closing = False
        self._db, self._now = db, clock
        self._running: dict[str, LiveTextBuffer] = {}
        self._readers: dict[str, set[Subscription]] = {}

    def running(self, job_id: str) -> LiveTextBuffer | None:
        """Return what tells of the job in this process, if anything does."""
        return self._running.get(job_id)

    @contextmanager
    def subscribe(self, job_id: str) -> Iterator[Subscription]:
        """Lend a subscription that is notified when there may be more to read of the job."""
        news = Subscription()
        readers = self._readers.setdefault(job_id, set())
        readers.add(news)
        try:
            yield news
        finally:
            news.close()
            readers.discard(news)
            if not readers:
                self._readers.pop(job_id, None)

    def notify(self, job_id: str) -> None:
        """Wake who reads of the job."""
        for news in self._readers.get(job_id, ()):
            news.notify()

    def begin_closing(self) -> None:
        """Tell every reader that this process ends."""
        self.is_closing = True
        for job_id in self._readers:
            self.notify(job_id)

    @asynccontextmanager
    async def publishing(self, job: Job) -> AsyncIterator[Job]:
        """Lend the job with somewhere to tell its text, where it is to be streamed."""
        if job.mode != STREAM:
            yield job
            return
        told = LiveTextBuffer(
            job.run.epoch, partial(self.notify, job.id), lambda: self._reset(listened)
        )
        listened = replace(job, run=replace(job.run, live_text=told))
        self._running[job.id] = told
        self.notify(job.id)
        saving = asyncio.create_task(self._save(told, listened.run))
        try:
            yield listened
        finally:
            saving.cancel()
            with suppress(asyncio.CancelledError):
                await saving
            if self._running.get(job.id) is told:
                del self._running[job.id]
            self.notify(job.id)

    async def _save(self, told: LiveTextBuffer, run: Run) -> None:
        """Save the told text each second or two kilobytes, whatever comes first."""

        async def write(pledge: UnsavedText) -> None:
            await self._db.write(_save_as, run, pledge, now=self._now())

        while True:
            await told.has_unsaved.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(SAVE_SECONDS):
                    await told.is_full.wait()
            try:
                if not await told.save(write):
                    await asyncio.sleep(SAVE_SECONDS / 20)  # a row is being written
            except StaleRun:
                return  # the run learns it by its own next write
            except DatabaseUnavailable:
                log.warning("events.not_stored", job=run.job_id)
                await asyncio.sleep(SAVE_SECONDS)

    async def _reset(self, job: Job) -> None:
        await write_of_run(self._db, _say_void, job, now=self._now())


def _save_as(tx: sa.Connection, run: Run, pledge: UnsavedText, *, now: datetime) -> None:
    fenced_update(tx, run, now=now)
    delta_text.save(tx, run.job_id, run.epoch, pledge)


def _say_void(tx: sa.Connection, /, job: Job, *, now: datetime) -> None:
    fenced_update(tx, job.run, now=now, events=[Event("reset", {})])
