"""The use-case: take a job up, cut its recording, ask the engine, settle, end it.

`advance` is the only way a job moves. It may be called by anybody at any time, again and
again: what is stored is never done or paid for a second time.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog

from app.audio.ffmpeg import Decoders
from app.audio.links import SignedLinks
from app.audio.store import BlobStore
from app.db.database import Database
from app.errors import (
    AudioStorageError,
    DatabaseUnavailable,
    GatewayError,
    InternalError,
    RunCrashed,
)
from app.jobs.execution.decode import JobDecoder
from app.jobs.execution.fetch_source import SourceFetcher
from app.jobs.execution.lease import renewing_lease
from app.jobs.execution.parts import PartsWork
from app.jobs.execution.whole import WholeWork
from app.jobs.filetrans import store as task_calls
from app.jobs.filetrans.address import AudioAddresses
from app.jobs.filetrans.run import TaskRunner
from app.jobs.store import calls, delta_text, outcome, runs
from app.jobs.store.durable_write import surely
from app.jobs.store.events import Event
from app.jobs.store.job import Job
from app.jobs.store.runs import PutOff, StaleRun, Waiting
from app.jobs.streaming.hub import StreamHub
from app.jobs.upstream.caller import UpstreamCaller
from app.kit.clock import Clock
from app.kit.log import safe_traceback
from app.settings import JobSettings
from app.speech.engine import Engine
from app.speech.options import STREAM
from app.speech.task_engine import HasTasks

log = structlog.get_logger()


class Transcriber:
    """Advances jobs with the engines it is given."""

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        engines: Mapping[str, Engine],
        collector: SourceFetcher,
        *,
        decoders: Decoders,
        board: StreamHub,
        max_seconds: float,
        settings: JobSettings,
        clock: Clock,
        links: SignedLinks,
    ) -> None:
        self._db = db
        self._board = board
        self._store = store
        self._engines = engines
        self._collector = collector
        self._settings = settings
        self._now = clock
        self._epochs: dict[str, int] = {}
        asker = UpstreamCaller(db, engines, decoders, settings=settings, clock=clock)
        decoder = JobDecoder(decoders)
        self._whole = WholeWork(db, asker, decoder, clock=clock)
        tasks = {
            name: engine.tasks
            for name, engine in engines.items()
            if isinstance(engine, HasTasks) and engine.tasks is not None
        }
        self._tasks = TaskRunner(
            db,
            tasks,
            AudioAddresses(
                db,
                store,
                links,
                decoders=decoders,
                task_seconds=settings.task_timeout_seconds,
                max_seconds=max_seconds,
                clock=clock,
            ),
            settings=settings,
            max_seconds=max_seconds,
            clock=clock,
        )
        self._parts = PartsWork(
            db,
            asker,
            decoder,
            decoders,
            max_seconds=max_seconds,
            settings=settings,
            clock=clock,
        )

    async def advance(self, job_id: str, claimed: Job | None = None) -> timedelta | None:
        """Work on a job as far as it goes; return when to call again, or None.

        None: there is nothing left to do, as it has ended. While another worker holds it, it is
        to be looked at again when that one's lease is over: the worker may have died.
        `claimed` is the job where the caller already holds its lease (see submit).
        """
        try:
            job = claimed or await self._take_up(job_id)
        except DatabaseUnavailable:
            return self._pause
        if not isinstance(job, Job):
            return job
        self._epochs[job_id] = job.run.epoch
        try:
            with structlog.contextvars.bound_contextvars(job=job.id, epoch=job.run.epoch):
                async with self._board.publishing(job) as told:
                    return await self._run(told)
        finally:
            self._epochs.pop(job_id, None)

    def epoch_of(self, job_id: str) -> int | None:
        """Return the epoch of the job's run here; None where there is none (yet)."""
        return self._epochs.get(job_id)

    async def cancel_upstream(self, job_id: str, epoch: int | None = None) -> None:
        """Call off upstream what has not been begun with there, of a job that was cancelled.

        What runs later than `epoch` have submitted is left alone. Best effort: nothing is raised,
        and what cannot be called off stays in doubt.
        """
        await self._tasks.cancel(job_id, epoch)

    async def _take_up(self, job_id: str) -> Job | timedelta | None:
        return await self._db.write(
            self._claim, job_id, lease_seconds=self._settings.lease_seconds, now=self._now()
        )

    def _claim(
        self, tx: sa.Connection, /, job_id: str, *, lease_seconds: float, now: datetime
    ) -> Job | timedelta | None:
        job = runs.claim(tx, job_id, lease_seconds=lease_seconds, now=now)
        if job is None:
            return runs.lease_left(tx, job_id)
        remote = self._is_remote(job)
        unseen = calls.close_orphaned(tx, job.id, remote=remote, now=now, but_tasks=True)
        if job.account.retry_epoch and job.plan["kind"] == "filetrans":
            task_calls.resume_in_doubt(
                tx, job.id, retry_epoch=job.account.retry_epoch, epoch=job.run.epoch
            )
        # A process that died may have told more than it saved.
        if job.mode == STREAM and (unseen or delta_text.has_unconfirmed_text(tx, job.id)):
            runs.fenced_update(tx, job.run, now=now, events=[Event("reset", {})])
        return job

    async def _run(self, job: Job) -> timedelta | None:
        try:
            if job.runs_without_progress > runs.MAX_RUNS_WITHOUT_PROGRESS:
                raise RunCrashed  # noqa: TRY301 - ends the job like any other failure
            async with renewing_lease(self._db, job.run):
                if job.source_url is not None and job.plan.get("audio_source") != "client_url":
                    job = await self._collector.collect(job, job.source_url)
                await self._transcribe(job)
        except StaleRun:
            log.info("run.stale")
        except asyncio.CancelledError:
            await self._hand_back(job)
            raise
        except DatabaseUnavailable:
            log.warning("run.database_unavailable")
            return self._pause
        except PutOff as wait:
            return await self._put_off(job, wait)
        except AudioStorageError:
            log.error("run.audio_storage_error")  # noqa: TRY400 - there is nothing to trace
            await self._hand_back(job, was_idle=True)
        except GatewayError as error:
            await self._fail(job, error)
        except Exception as error:  # noqa: BLE001 - a job must end, whatever broke
            log.error("run.broke", frames=safe_traceback(error))  # noqa: TRY400 - no message in a log
            await self._fail(job, InternalError())
        return None

    async def _fail(self, job: Job, error: GatewayError) -> None:
        try:
            await surely(
                self._db, outcome.fail, job, error, remote=self._is_remote(job), now=self._now()
            )
        except StaleRun:
            log.info("run.stale")
        else:
            log.info("job.failed", code=error.code, reason=error.log)

    async def _put_off(self, job: Job, wait: PutOff) -> timedelta:
        seconds = wait.seconds
        tell = log.debug if isinstance(wait, Waiting) else log.info
        tell("job.put_off", seconds=round(seconds, 1))
        try:
            await self._db.write(
                runs.defer, job.run, seconds, now=self._now(), patience=wait.patience
            )
        except DatabaseUnavailable:
            return self._pause
        return timedelta(seconds=seconds)

    async def _hand_back(self, job: Job, *, was_idle: bool = False) -> None:
        with suppress(DatabaseUnavailable):  # then the lease ends by itself
            await self._db.write(runs.release, job.run, was_idle=was_idle)

    async def _transcribe(self, job: Job) -> None:
        if job.plan["kind"] == "filetrans":
            done_ms = await self._tasks.do(job)
            log.info("job.completed", seconds=done_ms / 1000)
            return
        work = self._whole if job.plan.get("as_is") else self._parts
        async with self._store.local_copy(job.blob_key) as path:
            progress = await work.do(job, path)
        log.info("job.completed", seconds=progress.done_ms / 1000)

    @property
    def _pause(self) -> timedelta:
        """How long until a lease that could not be given back has run out."""
        return timedelta(seconds=self._settings.lease_seconds)

    def _is_remote(self, job: Job) -> bool:
        engine = self._engines.get(job.engine)
        return engine is None or engine.remote
