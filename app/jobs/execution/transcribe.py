"""Advances jobs: claim, fetch the source, transcribe the parts, and end the job or defer it.

`advance` is the only way a job moves. It may be called at any time and repeatedly: stored parts
are never transcribed, or paid for, a second time.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import sqlalchemy as sa

from app.audio.ffmpeg import Decoders
from app.audio.storage.blob_store import BlobStore
from app.audio.storage.links import SignedLinks
from app.db.database import Database
from app.errors import (
    AudioStorageError,
    DatabaseUnavailable,
    GatewayError,
    InternalError,
    RunCrashed,
)
from app.jobs.execution.as_received import transcribe_as_received
from app.jobs.execution.claimed import ClaimedJob
from app.jobs.execution.decoded import DecodedSource
from app.jobs.execution.fetch_source import SourceFetcher
from app.jobs.execution.job_run import JobRun
from app.jobs.execution.lease import RenewedLease
from app.jobs.filetrans import store as task_calls
from app.jobs.filetrans.address import AudioAddresses
from app.jobs.filetrans.run import TaskRunner
from app.jobs.store import calls, outcome, runs
from app.jobs.store.durable_write import write_durably, write_of_run
from app.jobs.store.events import has_unconfirmed_text
from app.jobs.store.job import Job
from app.jobs.store.runs import Deferred, StaleRun
from app.jobs.streaming.hub import StreamHub
from app.jobs.upstream.caller import UpstreamCaller
from app.kit.clock import Clock
from app.kit.log import log, log_context, safe_traceback
from app.kit.memory import is_out_of_resources
from app.settings import JobSettings
from app.speech.engine import Engine
from app.speech.options import STREAM
from app.speech.task_engine import HasTasks

OUT_OF_RESOURCES_SECONDS = 5.0  # until a job is advanced again that found no file or memory


class Transcriber:
    """Advances jobs with the engines of this process."""

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        engines: Mapping[str, Engine],
        source_fetcher: SourceFetcher,
        *,
        decoders: Decoders,
        hub: StreamHub,
        max_seconds: float,
        settings: JobSettings,
        clock: Clock,
        links: SignedLinks,
    ) -> None:
        self._db = db
        self._store = store
        self._engines = engines
        self._source_fetcher = source_fetcher
        self._decoders = decoders
        self._hub = hub
        self._settings = settings
        self._now = clock
        self._epochs: dict[str, int] = {}
        self._caller = UpstreamCaller(db, engines, decoders, settings=settings, clock=clock)
        self._decoded = DecodedSource(decoders, max_seconds=max_seconds, settings=settings)
        addresses = AudioAddresses(
            db,
            store,
            links,
            decoders=decoders,
            task_seconds=settings.task_timeout_seconds,
            max_seconds=max_seconds,
            clock=clock,
        )
        self._tasks = TaskRunner(
            db,
            {
                name: engine.tasks
                for name, engine in engines.items()
                if isinstance(engine, HasTasks) and engine.tasks is not None
            },
            addresses,
            settings=settings,
            max_seconds=max_seconds,
            clock=clock,
        )

    async def advance(self, job_id: str, claimed: ClaimedJob | None = None) -> timedelta | None:
        """Run a job as far as possible; return the delay until the next call, or None at its end.

        A job that another worker holds is to be advanced again when that worker's lease ends, as
        the worker may have died. `claimed` is a job whose lease the caller already holds.
        """
        if claimed is None:
            try:
                found = await self._db.write(
                    self._claim,
                    job_id,
                    lease_seconds=self._settings.lease_seconds,
                    now=self._now(),
                )
            except DatabaseUnavailable:
                return self._lease_time
            if not isinstance(found, Job):
                return found
            claimed = ClaimedJob(found)
        run = claimed.job.run
        self._epochs[job_id] = run.epoch
        try:
            with log_context(job=job_id, epoch=run.epoch):
                async with self._hub.publishing(claimed.job) as job:
                    claimed.job = job
                    return await self._run(claimed)
        finally:
            self._epochs.pop(job_id, None)
            first = claimed.first_call
            if first is not None and not first.is_taken:
                first.discard()
                with suppress(DatabaseUnavailable):  # the next run takes the call to be in doubt
                    await write_durably(
                        self._db, calls.close_unmade, first.call_id, now=self._now()
                    )

    def epoch_of(self, job_id: str) -> int | None:
        """Return the epoch of the job's run in this process, or None without one."""
        return self._epochs.get(job_id)

    async def cancel_upstream(self, job_id: str, epoch: int | None = None) -> None:
        """Cancel the pending tasks of a cancelled job at the provider.

        Tasks of runs later than `epoch` are left alone. Nothing is raised; a task that cannot be
        cancelled stays in doubt.
        """
        await self._tasks.cancel(job_id, epoch)

    def _claim(
        self, tx: sa.Connection, /, job_id: str, *, lease_seconds: float, now: datetime
    ) -> Job | timedelta | None:
        job = runs.claim(tx, job_id, lease_seconds=lease_seconds, now=now)
        if job is None:
            return runs.lease_left(tx, job_id)
        remote = self._is_remote(job)
        had_open_calls = calls.close_orphaned(tx, job.id, remote=remote, now=now, but_tasks=True)
        if job.account.retry_epoch and job.plan.kind == "filetrans":
            task_calls.resume_in_doubt(
                tx, job.id, retry_epoch=job.account.retry_epoch, epoch=job.run.epoch
            )
        # A process that died may have published more text than it stored.
        if job.mode == STREAM and (had_open_calls or has_unconfirmed_text(tx, job.id)):
            runs.add_reset(tx, job, now=now)
            return replace(job, event_count=job.event_count + 1)
        return job

    async def _run(self, claimed: ClaimedJob) -> timedelta | None:
        job = claimed.job
        log.debug("run.started", engine=job.engine, plan=job.plan.kind)
        try:
            if job.runs_without_progress > runs.MAX_RUNS_WITHOUT_PROGRESS:
                raise RunCrashed  # noqa: TRY301 - ends the job like any other failure
            async with RenewedLease(self._db, job.run):
                if job.source_url is not None and job.plan.audio_source != "client_url":
                    claimed.job = job = await self._source_fetcher.fetch(job, job.source_url)
                done_ms = await self._transcribe(claimed)
                log.info("job.completed", seconds=done_ms / 1000)
        except StaleRun:
            log.info("run.stale")
        except asyncio.CancelledError:
            await self._release(job)
            raise
        except DatabaseUnavailable:
            log.warning("run.database_unavailable")
            return self._lease_time
        except Deferred as deferred:
            return await self._defer(job, deferred)
        except AudioStorageError:
            log.error("run.audio_not_readable")
            await self._release(job, was_idle=True)
        except Exception as error:  # noqa: BLE001 - a job must end, whatever broke
            if is_out_of_resources(error):
                return await self._defer(
                    job, Deferred(OUT_OF_RESOURCES_SECONDS, "out_of_resources", "paused")
                )
            await self._fail(job, error)
        return None

    async def _transcribe(self, claimed: ClaimedJob) -> int:
        """Transcribe the job to its end; return the length of its audio in milliseconds."""
        job = claimed.job
        if job.plan.kind == "filetrans":
            return await self._tasks.run(job)
        run = JobRun(claimed, self._db, self._caller, clock=self._now)
        if job.plan.as_is:
            await transcribe_as_received(
                run, claimed.received, db=self._db, store=self._store, decoders=self._decoders
            )
        else:
            async with self._store.local_copy(job.blob_key) as path:
                await self._decoded.transcribe(run, path)
        await run.finish()
        return run.progress.done_ms

    async def _fail(self, job: Job, problem: Exception) -> None:
        error = problem if isinstance(problem, GatewayError) else InternalError()
        if error is not problem:
            log.error("run.crashed", frames=safe_traceback(problem))
        try:
            await write_of_run(
                self._db, outcome.fail, job, error, remote=self._is_remote(job), now=self._now()
            )
        except StaleRun:
            log.info("run.stale")
        else:
            log.info("job.failed", code=error.code, reason=error.log)

    async def _defer(self, job: Job, deferred: Deferred) -> timedelta:
        report = log.debug if deferred.clock == "reset" else log.info
        cause = {"kind": deferred.kind} if deferred.kind is not None else {}
        seconds = round(deferred.seconds, 1)
        report("job.deferred", seconds=seconds, reason=deferred.reason, **cause)
        try:
            await self._db.write(
                runs.defer_run, job.run, deferred.seconds, now=self._now(), clock=deferred.clock
            )
        except DatabaseUnavailable:
            return self._lease_time
        return timedelta(seconds=deferred.seconds)

    async def _release(self, job: Job, *, was_idle: bool = False) -> None:
        with suppress(DatabaseUnavailable):  # the lease then ends by itself
            await self._db.write(runs.release_run, job.run, was_idle=was_idle)

    @property
    def _lease_time(self) -> timedelta:
        """The delay after which a lease that could not be released has ended."""
        return timedelta(seconds=self._settings.lease_seconds)

    def _is_remote(self, job: Job) -> bool:
        engine = self._engines.get(job.engine)
        return engine is None or engine.remote
