"""Submit a job's task: give the provider an address of the audio, record the call, send it.

A submitted task is not submitted again on a guess: where the answer to a submit was lost, the job
fails in doubt.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import NoReturn

from app.db.database import Database
from app.errors import EngineUnavailable, UpstreamInDoubt
from app.jobs.filetrans import store
from app.jobs.filetrans.address import Address, AudioAddresses
from app.jobs.filetrans.pacing import PollPacing
from app.jobs.store import calls
from app.jobs.store.durable_write import shielded, write_durably, write_of_run
from app.jobs.store.job import Job
from app.jobs.store.routes import Route
from app.jobs.store.runs import DeferReason, Deferred
from app.jobs.upstream import retry_policy
from app.jobs.upstream.engine_errors import public_error
from app.kit.clock import Clock
from app.kit.log import log
from app.kit.priority_semaphore import PrioritySemaphore
from app.settings import JobSettings
from app.speech.engine import Billed, EngineError
from app.speech.task_engine import TaskEngine, TaskRequest

ADMISSION_TIMEOUT_SECONDS = 15.0  # for which a submit waits for the account's rate limit


class TaskSubmitter:
    """Submits tasks, at most `max_concurrent_submits` at once: an upload may be large."""

    def __init__(
        self,
        db: Database,
        engines: Mapping[str, TaskEngine],
        addresses: AudioAddresses,
        pacing: PollPacing,
        *,
        settings: JobSettings,
        longest_ms: int,
        clock: Clock,
    ) -> None:
        self._db = db
        self._engines = engines
        self._addresses = addresses
        self._pacing = pacing
        self._settings = settings
        self._longest_ms = longest_ms
        self._now = clock
        self._slots = PrioritySemaphore(settings.max_concurrent_submits)

    async def submit(self, job: Job) -> TaskEngine:
        """Submit the job's task and return the engine that works on it.

        A cancelled run finishes the submit and stores the task's id where it can. Raises Deferred
        (also where other jobs submit first), GatewayError, StaleRun and DatabaseUnavailable.
        """
        route = job.routes[0]
        engine = self._engines.get(route.engine)
        if engine is None:
            raise EngineUnavailable(f"The engine {job.engine} is no longer switched on here.")
        await self._take_slot(job)
        started = asyncio.get_running_loop().time()
        reason: DeferReason = "upload_failed"
        try:
            address = await self._addresses.of(job, engine, route.upstream_model)
            reason = "not_admitted"
            await shielded(self._submit(job, route, engine, address))
        except EngineError as error:  # of the upload or the admission: neither is billed
            self._try_later(job, error, reason)
        finally:
            self._slots.release()
        self._pacing.note_submit(job.id, asyncio.get_running_loop().time() - started)
        return engine

    async def _take_slot(self, job: Job) -> None:
        """Take a slot. A job of raised priority waits for one; others, maybe thousands, defer."""
        if self._slots.try_acquire():
            return
        if job.priority <= 0:
            pause = self._pacing.before_submit(job.id, self._settings.max_concurrent_submits)
            raise Deferred(pause, "submit_slot", "paused")
        await self._slots.acquire(job.priority)

    async def _submit(self, job: Job, route: Route, engine: TaskEngine, address: Address) -> None:
        span = store.span_of(job, address.source, self._longest_ms)
        request = TaskRequest(
            model=route.upstream_model,
            url=address.url,
            language=job.options.language,
            context=job.options.context,
            word_timestamps=job.options.word_timestamps,
            options=job.options.engine_options,
        )
        async with engine.admit(route.upstream_model, ADMISSION_TIMEOUT_SECONDS, job.priority):
            call_id = await self._db.write(
                calls.open_call, job, route, span, (), retry_in_doubt=False, now=self._now()
            )
            try:
                submitted = await engine.submit(request)
            except EngineError as error:
                log.warning(
                    "call.failed", engine=route.engine, kind=error.kind, billed=error.billed
                )
                attempts = await write_of_run(
                    self._db,
                    calls.close_failed,
                    job,
                    route,
                    span,
                    call_id,
                    error,
                    now=self._now(),
                )
                if error.billed is Billed.MAYBE:
                    raise UpstreamInDoubt(log=error.log) from error
                decision = retry_policy.on_failure(error, attempts, remote=True)
                if decision.wait is None:
                    raise public_error(error) from error
                self._try_later(job, error, "call_failed", decision.wait)
            await write_durably(self._db, store.store_task_id, call_id, submitted)
        self._addresses.forget(job.id)
        log.info("task.submitted", engine=route.engine, audio_source=job.plan.audio_source)
        await write_of_run(self._db, store.note_submitted, job, now=self._now())

    def _try_later(
        self, job: Job, error: EngineError, reason: DeferReason, pause: float | None = None
    ) -> NoReturn:
        """Raise Deferred, or the public error where it is final or the retry timeout is over."""
        since = job.deferred_since or self._now()
        timeout = timedelta(seconds=self._settings.retry_timeout_seconds)
        left = (since + timeout - self._now()).total_seconds()
        if not error.retryable or left <= 0:
            raise public_error(error) from error
        pause = pause or retry_policy.backoff_seconds(error, 1)
        raise Deferred(min(left, self._pacing.jittered(pause)), reason, kind=error.kind) from error
