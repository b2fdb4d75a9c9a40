"""Submit a recording as a task: give it an address, write the call down, send it, keep its id.

What was submitted is never submitted again on a guess: a submit whose answer was lost ends the job
in doubt.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

import structlog

from app.db.database import Database
from app.errors import EngineUnavailable, GatewayError, UpstreamInDoubt
from app.jobs.filetrans import store
from app.jobs.filetrans.address import Address, AudioAddresses
from app.jobs.filetrans.pacing import PollPacing
from app.jobs.store import calls
from app.jobs.store.durable_write import LAST_WRITE_SECONDS, write_durably, write_of_run
from app.jobs.store.job import Job
from app.jobs.store.parts import PartSpan
from app.jobs.store.routes import Route
from app.jobs.store.runs import Deferred
from app.jobs.upstream import retry_policy
from app.jobs.upstream.engine_errors import public_error
from app.kit.clock import Clock
from app.kit.priority_semaphore import PrioritySemaphore
from app.settings import JobSettings
from app.speech.engine import Billed, EngineError
from app.speech.task_engine import TaskEngine, TaskRequest

TURN_SECONDS = 15.0  # that a submit waits here for its turn

log = structlog.get_logger()


class TaskSubmitter:
    """Submits with the parts it is given; `at_once` bounds what is heavy about that."""

    def __init__(
        self,
        db: Database,
        engines: Mapping[str, TaskEngine],
        links: AudioAddresses,
        pauses: PollPacing,
        *,
        settings: JobSettings,
        longest_ms: int,
        clock: Clock,
    ) -> None:
        self._db = db
        self._engines = engines
        self._links = links
        self._pauses = pauses
        self._settings = settings
        self._longest_ms = longest_ms
        self._now = clock
        self._places = PrioritySemaphore(settings.max_concurrent_submits)

    async def begin(self, job: Job) -> TaskEngine:
        """Submit the job's task and return who works on it.

        Raises Deferred (also where other submits are before it), GatewayError, StaleRun and
        DatabaseUnavailable.
        """
        await self._take_place(job)
        began = asyncio.get_running_loop().time()
        try:
            engine = await self._begin(job)
        finally:
            self._places.give()
        self._pauses.note_begin(job.id, asyncio.get_running_loop().time() - began)
        return engine

    async def _take_place(self, job: Job) -> None:
        """Take a place. Thousands may want one, so only who is urgent stands and waits for it."""
        if self._places.take_free():
            return
        if job.priority <= 0:
            pause = self._pauses.before_begin(job.id, self._settings.max_concurrent_submits)
            raise Deferred(pause, "paused")
        await self._places.take(job.priority)

    async def _begin(self, job: Job) -> TaskEngine:
        route = job.routes[0]
        engine = self._engines.get(route.engine)
        if engine is None:
            raise EngineUnavailable(f"The engine {job.engine} is no longer switched on here.")
        try:
            address = await self._links.of(job, engine, route.upstream_model)
        except EngineError as error:  # of an upload, which costs nothing
            raise self._later(job, error) from error
        await self._submit_whole(job, route, engine, address)
        return engine

    async def _submit_whole(
        self, job: Job, route: Route, engine: TaskEngine, address: Address
    ) -> None:
        """Submit; a run that is cancelled meanwhile stores the task all the same, if it can."""
        submitting = asyncio.create_task(self._submit(job, route, engine, address))
        try:
            await asyncio.shield(submitting)
        except asyncio.CancelledError:
            with suppress(Exception):  # nothing more can be done: the call is in doubt
                await asyncio.wait_for(submitting, LAST_WRITE_SECONDS)
            raise

    async def _submit(self, job: Job, route: Route, engine: TaskEngine, address: Address) -> None:
        span = store.span_of(job, address.source, self._longest_ms)
        try:
            async with engine.admit(route.upstream_model, TURN_SECONDS, job.priority):
                call_id = await self._db.write(
                    calls.open_call, job, route, span, (), retry_in_doubt=False, now=self._now()
                )
                await self._submit_once(job, route, engine, span, call_id, address)
        except EngineError as error:  # of its turn
            raise self._later(job, error) from error

    async def _submit_once(
        self,
        job: Job,
        route: Route,
        engine: TaskEngine,
        span: PartSpan,
        call_id: str,
        address: Address,
    ) -> None:
        try:
            taken = await engine.submit(_order(job, route, address))
        except EngineError as error:
            raise await self._not_submitted(job, route, span, call_id, error) from error
        await write_durably(self._db, store.store_task_id, call_id, taken)
        self._links.forget(job.id)
        log.info("task.submitted", engine=route.engine, link=job.plan.audio_source)
        await write_of_run(self._db, store.note_submitted, job, now=self._now())

    async def _not_submitted(
        self, job: Job, route: Route, span: PartSpan, call_id: str, error: EngineError
    ) -> Exception:
        """Close the call of a submit without an answer; return what follows from that."""
        log.warning("call.failed", engine=route.engine, kind=error.kind, billed=error.billed)
        now = self._now()
        before = await write_of_run(
            self._db, calls.close_failed, job, route, span, call_id, error, now=now
        )
        if error.billed is Billed.MAYBE:
            return UpstreamInDoubt(log=error.log)
        verdict = retry_policy.on_failure(error, before, remote=True)
        return (
            public_error(error) if verdict.wait is None else self._later(job, error, verdict.wait)
        )

    def _later(
        self, job: Job, error: EngineError, pause: float | None = None
    ) -> Deferred | GatewayError:
        """Return when to try again what nobody has taken up, or that the patience is over."""
        if not error.retryable:
            return public_error(error)
        since = job.deferred_since or self._now()
        left = (
            since + timedelta(seconds=self._settings.retry_timeout_seconds) - self._now()
        ).total_seconds()
        if left <= 0:
            return public_error(error)
        return Deferred(
            min(left, self._pauses.jittered(pause or retry_policy.backoff_seconds(error, 1)))
        )


def _order(job: Job, route: Route, address: Address) -> TaskRequest:
    options = job.options
    return TaskRequest(
        model=route.upstream_model,
        url=address.url,
        language=options.language,
        context=options.context,
        words=options.words,
        options=options.engine_options,
    )
