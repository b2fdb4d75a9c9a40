"""The live logs of this process's runs: where runs publish, and readers find them."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from app.db.database import Database
from app.errors import DatabaseUnavailable
from app.jobs.store.durable_write import DATABASE_PAUSE_SECONDS, retry_write, write_of_run
from app.jobs.store.events import Event, delta
from app.jobs.store.job import Job, Run
from app.jobs.store.runs import add_reset
from app.jobs.streaming.buffer import LiveTextBuffer
from app.jobs.streaming.cursor import Position
from app.jobs.streaming.delta_text import current_runs, store_texts
from app.jobs.streaming.log import LiveLog
from app.jobs.streaming.stored_log import read_events
from app.jobs.streaming.subscription import Subscription
from app.kit.clock import Clock
from app.kit.log import log, safe_traceback
from app.speech.options import STREAM

SAVE_SECONDS = 1.0  # between two transactions that store live text
SAVED_CHARACTERS = 2048  # of one run, which are stored at once
STALE_CHECK_SECONDS = 2.0  # between two checks whether the runs here still hold their jobs


class _LiveRun(NamedTuple):
    run: Run
    buffer: LiveTextBuffer


class StreamHub:
    """Knows the streamed runs of this process, stores their text and wakes their readers."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self.is_closing = False
        self._db, self._now = db, clock
        self._runs: dict[str, _LiveRun] = {}
        self._readers: dict[str, set[Subscription]] = {}
        self._is_full = asyncio.Event()
        self._storing: asyncio.Task[None] | None = None

    def live_log(self, job_id: str) -> LiveLog | None:
        """Return the log of the job's run, if it is streamed by this process."""
        live = self._runs.get(job_id)
        return None if live is None else live.buffer.log

    def has_live_text(self, job_id: str) -> bool:
        """Whether this process has published text of the job that no stored event holds yet."""
        live = self.live_log(job_id)
        return live is not None and live.unstored_characters > 0

    @contextmanager
    def subscribe(self, job_id: str) -> Iterator[Subscription]:
        """Lend a subscription that is notified when there may be more to read of the job."""
        subscription = Subscription()
        readers = self._readers.setdefault(job_id, set())
        readers.add(subscription)
        try:
            yield subscription
        finally:
            subscription.close()
            readers.discard(subscription)
            if not readers:
                self._readers.pop(job_id, None)

    def notify(self, job_id: str) -> None:
        """Wake the readers of a job."""
        for subscription in self._readers.get(job_id, ()):
            subscription.notify()

    def begin_closing(self) -> None:
        """Let every reader know that this process ends."""
        self.is_closing = True
        for job_id in self._readers:
            self.notify(job_id)

    def publishing(self, job: Job) -> AbstractAsyncContextManager[Job]:
        """Yield the job during the block; a streamed job has a buffer for live text."""
        return self._publishing_live(job) if job.mode == STREAM else nullcontext(job)

    @asynccontextmanager
    async def _publishing_live(self, job: Job) -> AsyncIterator[Job]:
        buffer = LiveTextBuffer(
            LiveLog(job.event_count),
            partial(self._published, job.id),
            partial(self._read_stored, job.id),
            lambda: write_of_run(self._db, add_reset, streamed, now=self._now()),
        )
        streamed = replace(job, run=replace(job.run, live_text=buffer))
        self._runs[job.id] = live = _LiveRun(streamed.run, buffer)
        if self._storing is None:
            self._storing = asyncio.create_task(self._store_regularly(), name="live text")
        self.notify(job.id)
        try:
            yield streamed
        finally:
            if self._runs.get(job.id) is live:
                del self._runs[job.id]
            self.notify(job.id)
            if not self._runs and self._storing is not None:
                storing, self._storing = self._storing, None
                storing.cancel()
                with suppress(asyncio.CancelledError):
                    await storing

    def _published(self, job_id: str) -> None:
        buffer = self._runs[job_id].buffer if job_id in self._runs else None
        if buffer and not buffer.is_storing and buffer.log.unstored_characters >= SAVED_CHARACTERS:
            self._is_full.set()
        self.notify(job_id)

    async def _store_regularly(self) -> None:
        """Store the text of all runs together, every SAVE_SECONDS or when one has much of it."""
        checked, now = 0.0, asyncio.get_running_loop().time
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SAVE_SECONDS):
                    await self._is_full.wait()
            self._is_full.clear()
            try:
                await self._store_texts()
                if self._db.is_shared and now() - checked >= STALE_CHECK_SECONDS:
                    checked = now()
                    lives = [live.run for live in self._runs.values()]
                    current = await self._db.read(current_runs, lives)
                    for run in lives:
                        if run.job_id not in current:  # cancelled, or claimed by another process
                            self._drop(run)
            except DatabaseUnavailable:
                log.warning("live_text.database_unavailable")
            except Exception as error:  # noqa: BLE001 - the text of all other runs depends on it
                log.error("live_text.not_stored", frames=safe_traceback(error))

    async def _store_texts(self) -> None:
        async with AsyncExitStack() as storing:
            lives: list[_LiveRun] = []
            for live in list(self._runs.values()):
                if live.buffer.has_unstored_text and not live.buffer.is_storing:
                    await storing.enter_async_context(live.buffer.storing())
                    if live.buffer.unstored.text:
                        lives.append(live)
            if not lives:
                return
            texts = [(run, buffer.unstored) for run, buffer in lives]
            # Until it succeeds no other write of these runs may number its events.
            stored = await retry_write(self._db, store_texts, texts, now=self._now())
            for run, buffer in lives:
                if run.job_id in stored:
                    after, text = buffer.unstored
                    buffer.note_stored(after + 1, [delta(text)])
                else:
                    self._drop(run)

    def _drop(self, run: Run) -> None:
        """Remove a stale run. Its readers continue with the events in the database."""
        live = self._runs.get(run.job_id)
        if live is not None and live.run == run:
            del self._runs[run.job_id]
            self.notify(run.job_id)

    async def _read_stored(self, job_id: str, after: int) -> Sequence[Event]:
        while True:
            try:
                found = await self._db.read(read_events, job_id, Position(after))
            except DatabaseUnavailable:
                await asyncio.sleep(DATABASE_PAUSE_SECONDS)
            else:
                return [Event(item.type, item.data) for item in found.items]
