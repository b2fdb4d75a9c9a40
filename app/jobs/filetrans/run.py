"""Transcribe a recording by a task upstream: submit it once, ask how it is, fetch what was heard.

One run is one step, a tick: it submits, or it asks once and ends by `Waiting` for the next one. So
thousands of tasks wait without a connection, a slot or a lease being held for them.
"""

import asyncio
import random
from collections.abc import Mapping

import structlog

from app.db.database import Database
from app.errors import (
    DatabaseUnavailable,
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
    GatewayError,
    UpstreamInDoubt,
)
from app.jobs.filetrans import result, store
from app.jobs.filetrans.address import AudioAddresses
from app.jobs.filetrans.pacing import PollPacing
from app.jobs.filetrans.store import KnownTask
from app.jobs.filetrans.submit import TaskSubmitter
from app.jobs.store import calls
from app.jobs.store.attempts import AttemptCounts
from app.jobs.store.calls import Answered
from app.jobs.store.durable_write import write_of_run
from app.jobs.store.job import Job
from app.jobs.store.parts import PartSpan
from app.jobs.store.routes import Route
from app.jobs.store.runs import Deferred
from app.jobs.upstream import retry_policy
from app.kit.clock import Clock
from app.settings import JobSettings
from app.speech.engine import Billed, EngineAnswer, EngineError, ErrorKind
from app.speech.task_engine import FileResult, FileText, TaskEngine, TaskReport, TaskStatus

RESULTS_AT_ONCE = 4  # fetched and read; they may have many megabytes
UNKNOWN_SECONDS = 10.0  # in which a task just submitted may not be known everywhere
RESULT_SECONDS = 23 * 3600.0  # for as long a paid result is worth asking for

log = structlog.get_logger()


class TaskRunner:
    """What a run does of a job whose plan is one task."""

    def __init__(
        self,
        db: Database,
        engines: Mapping[str, TaskEngine],
        links: AudioAddresses,
        *,
        settings: JobSettings,
        max_seconds: float,
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        self._db = db
        self._engines = engines
        self._links = links
        self._settings = settings
        self._longest_ms = round(max_seconds * 1000)
        self._now = clock
        self._results = asyncio.Semaphore(RESULTS_AT_ONCE)
        self._pauses = PollPacing(settings, rng or random.Random())  # noqa: S311 - it only spreads
        self._beginning = TaskSubmitter(
            db,
            engines,
            links,
            self._pauses,
            settings=settings,
            longest_ms=self._longest_ms,
            clock=clock,
        )

    async def do(self, job: Job) -> int:
        """Take the next step; return the milliseconds heard once the job has ended.

        Raises Waiting and Deferred, which say when to come back, and GatewayError.
        """
        task = await self._db.read(store.find_open_task, job)
        if task is None:
            engine = await self._beginning.begin(job)
            raise Deferred(self._pauses.before_poll(job.id, 0.0, engine.polls_a_second), "reset")
        engine = await self._engine(job, task)
        report = await self._reported(job, engine, task)
        words = await self._texts(job, engine, task, report)
        done_ms = await self._finish(job, task, report, words)
        self._pauses.forget(job.id)
        return done_ms

    async def cancel(self, job_id: str, upto: int | None = None) -> None:
        """Call off what the upstream has not begun with, of runs up to the epoch `upto`.

        Best effort, and nothing is raised.
        """
        self._pauses.forget(job_id)
        try:
            for task in await self._db.read(store.find_active, job_id, upto):
                engine = self._engines.get(task.engine)
                if engine is not None and await engine.cancel(task.task_id):
                    now = self._now()
                    await self._db.write(store.note_cancelled, task.call_id, now=now)
                    log.info("task.cancelled", job=job_id)
        except (EngineError, DatabaseUnavailable) as error:
            log.warning("task.not_cancelled", job=job_id, reason=type(error).__name__)

    # ── how it is ───────────────────────────────────────────────────────────────────────────

    async def _reported(self, job: Job, engine: TaskEngine, task: KnownTask) -> TaskReport:
        """Return the report of a task that is done; what is not ends this step otherwise."""
        try:
            report = await engine.report(task.task_id)
        except EngineError as error:
            raise await self._wait(job, engine, task, error) from error
        match report.status:
            case TaskStatus.DONE:
                return report
            case TaskStatus.OPEN:
                raise await self._wait(job, engine, task)
            case TaskStatus.UNKNOWN:
                raise await self._lost(job, engine, task)
            case TaskStatus.CANCELLED:
                raise await self._called_off(job, task)
        raise await self._failed(job, task, report)

    async def _wait(
        self, job: Job, engine: TaskEngine, task: KnownTask, error: EngineError | None = None
    ) -> Deferred | GatewayError:
        """Return when to ask again. A task that is late is given up; it may be billed yet."""
        age = self._waited(task)
        if error is not None:
            log.info("task.not_asked", kind=error.kind, reason=error.log)
        if age < self._settings.task_timeout_seconds:
            pause = self._pauses.before_poll(job.id, age, engine.polls_a_second)
            return Deferred(max(pause, (error and error.retry_after) or 0.0), "reset")
        words = await self._give_up(job, task, age)
        return EngineTimeout(
            "The speech service had not finished the recording in time. It may still bill it, so "
            "it was not sent again.",
            log=words,
        )

    async def _give_up(self, job: Job, task: KnownTask, waited: float) -> str:
        """Close the call of a task that is late; return what the log says of it."""
        words = f"the task has not ended after {waited:.0f} s"
        late = EngineError(ErrorKind.TIMEOUT, words, billed=Billed.MAYBE)
        await self._close(job, task, late)
        return words

    async def _called_off(self, job: Job, task: KnownTask) -> Deferred | GatewayError:
        """Return what follows from a task that was called off: it is free."""
        words = "the task was cancelled upstream"
        await self._close(job, task, EngineError(ErrorKind.REJECTED, words))
        if task.is_before_retry:  # which was cancelled here; its owner wants it anew
            return Deferred(0.0)
        return EngineFailed("The task was called off at the speech service.", log=words)

    async def _lost(self, job: Job, engine: TaskEngine, task: KnownTask) -> Deferred | GatewayError:
        if self._age(task) < UNKNOWN_SECONDS:
            return await self._wait(job, engine, task)
        words = "the upstream does not know the task"
        await self._close(job, task, EngineError(ErrorKind.MALFORMED, words, billed=Billed.MAYBE))
        return UpstreamInDoubt(
            "The speech service knows nothing any more of a task that it had taken, and may have "
            "billed it. A new request transcribes the recording again.",
            log=words,
        )

    async def _failed(self, job: Job, task: KnownTask, report: TaskReport) -> Exception:
        """Return what follows from a task that failed: it is free, so it may be tried again."""
        fate = report.failure or FileResult()
        error = fate.error or EngineError(ErrorKind.INTERNAL, "the task failed")
        if report.usage.seconds:
            await self._charge(job, task, report)
            return result.public_error_of(job, fate, error)
        before = await self._close(job, task, error)
        self._links.forget(job.id)
        # One that the upstream itself gave up after hours is not begun anew.
        may_repeat = error.kind is not ErrorKind.TIMEOUT and not fate.unread
        verdict = retry_policy.on_failure(error, before, remote=True)
        if may_repeat and verdict.wait is not None:
            return Deferred(self._pauses.jittered(verdict.wait))
        return result.public_error_of(job, fate, error)

    async def _close(self, job: Job, task: KnownTask, error: EngineError) -> AttemptCounts:
        self._pauses.forget(job.id)
        log.warning("call.failed", engine=task.engine, kind=error.kind, reason=error.log)
        span = store.span_of(job, "", self._longest_ms)
        return await write_of_run(
            self._db,
            calls.close_failed,
            job,
            self._route(job, task),
            span,
            task.call_id,
            error,
            now=self._now(),
        )

    # ── what was heard ──────────────────────────────────────────────────────────────────────

    async def _texts(
        self, job: Job, engine: TaskEngine, task: KnownTask, report: TaskReport
    ) -> list[FileText | None]:
        """Fetch what was heard in each file; None of one that failed, or in which nobody speaks."""
        async with self._results:
            try:
                return [
                    await engine.result(file.result_url) if file.result_url else None
                    for file in report.files
                ]
            except EngineError as error:
                log.warning("task.no_result", kind=error.kind, reason=error.log)
                age, failure = self._age(task), error
        # It is paid for. A file that cannot be read will hardly be another one tomorrow.
        is_garbled = failure.kind is ErrorKind.MALFORMED
        waited = self._waited(task) if is_garbled else age
        if waited < (self._settings.task_timeout_seconds if is_garbled else RESULT_SECONDS):
            raise Deferred(self._pauses.before_poll(job.id, waited, engine.polls_a_second), "reset")
        await self._charge(job, task, report)
        raise EngineFailed("The speech service's result could not be fetched.", log=failure.log)

    async def _finish(
        self, job: Job, task: KnownTask, report: TaskReport, texts: list[FileText | None]
    ) -> int:
        """Keep what was heard, settle it and end the job; return its length in milliseconds."""
        parts = result.one_after_the_other(report, texts)
        length_ms = result.length_ms(job.duration_ms, parts)
        with_words = job.options.words
        words = await asyncio.to_thread(result.whole, parts, length_ms, with_words=with_words)
        answer = result.answer(words, report, texts, task.request_id)
        heard = PartSpan(0, 0, length_ms, length_ms, None)
        answered = Answered(self._route(job, task), task.call_id, heard, answer)
        gaps = result.gaps(report)
        await write_of_run(self._db, store.finish, job, answered, words, gaps, now=self._now())
        return length_ms

    async def _charge(self, job: Job, task: KnownTask, report: TaskReport) -> None:
        """Settle a task that is paid for and brought nothing."""
        self._pauses.forget(job.id)
        length_ms = job.duration_ms or 0
        span = PartSpan(0, 0, length_ms, length_ms, None)
        answer = EngineAnswer("", usage=report.usage)
        used = calls.usage_of(job, Answered(self._route(job, task), task.call_id, span, answer))
        raw = report.usage.raw
        await write_of_run(
            self._db, store.settle_without_result, job, task.call_id, used, raw, now=self._now()
        )

    async def _engine(self, job: Job, task: KnownTask) -> TaskEngine:
        """Return who works on it. One that was switched off may be switched on again in time."""
        engine = self._engines.get(task.engine)
        if engine is not None:
            return engine
        log.warning("task.engine_disabled", engine=task.engine)
        waited = self._waited(task)
        if waited < self._settings.task_timeout_seconds:
            raise Deferred(self._settings.max_poll_interval_seconds, "reset")
        raise EngineUnavailable(
            f"The recording was given to the engine {task.engine}, which is no longer switched on "
            "here. It may still bill it, so it was not sent to another.",
            log=await self._give_up(job, task, waited),
        )

    def _route(self, job: Job, task: KnownTask) -> Route:
        return next(route for route in job.routes if route.engine == task.engine)

    def _age(self, task: KnownTask) -> float:
        return (self._now() - task.opened_at).total_seconds()

    def _waited(self, task: KnownTask) -> float:
        """Seconds for which this life of the job has waited: a retry has all of the patience."""
        return (self._now() - task.awaited_since).total_seconds()
