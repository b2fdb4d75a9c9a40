"""Runs of jobs that are one task at the provider: submit it once, poll it, fetch its results.

Each run is one step: it submits the task, or polls it once, and ends with Deferred until the next
poll. Thousands of tasks wait without holding a connection, a slot or a lease.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import NoReturn

from app.db.database import Database
from app.errors import (
    DatabaseUnavailable,
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
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
from app.kit.log import log
from app.settings import JobSettings
from app.speech.engine import Billed, EngineAnswer, EngineError, ErrorKind
from app.speech.storable_answer import storable_part, storable_usage
from app.speech.task_engine import FileResult, FileText, TaskEngine, TaskReport, TaskStatus

MAX_CONCURRENT_RESULTS = 4  # fetched and parsed at once: a result may have many megabytes
UNKNOWN_TASK_SECONDS = 10.0  # for which a new task may be unknown to some servers of the provider
RESULT_TIMEOUT_SECONDS = 23 * 3600.0  # for which a paid result is requested: it expires after 24 h


class TaskRunner:
    """Runs jobs whose plan is `filetrans`."""

    def __init__(
        self,
        db: Database,
        engines: Mapping[str, TaskEngine],
        addresses: AudioAddresses,
        *,
        settings: JobSettings,
        max_seconds: float,
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        self._db = db
        self._engines = engines
        self._addresses = addresses
        self._settings = settings
        self._longest_ms = round(max_seconds * 1000)
        self._now = clock
        self._results = asyncio.Semaphore(MAX_CONCURRENT_RESULTS)
        self._pacing = PollPacing(settings, rng or random.Random())  # noqa: S311 - it only spreads
        self._submitter = TaskSubmitter(
            db,
            engines,
            addresses,
            self._pacing,
            settings=settings,
            longest_ms=self._longest_ms,
            clock=clock,
        )

    async def run(self, job: Job) -> int:
        """Take the next step of a job; return its milliseconds of audio once it has completed.

        Raises Deferred while the task is not finished, GatewayError where the job has failed,
        StaleRun and DatabaseUnavailable.
        """
        task = await self._db.read(store.find_open_task, job)
        if task is None:
            engine = await self._submitter.submit(job)
            pause = self._pacing.before_poll(job.id, 0.0, engine.polls_per_second)
            raise Deferred(pause, "task_pending", "reset")
        if task.engine not in self._engines:  # until the timeout it may be switched on again
            log.warning("task.engine_disabled", engine=task.engine)
            if self._waited(task) < self._settings.task_timeout_seconds:
                pause = self._settings.max_poll_interval_seconds
                raise Deferred(pause, "engine_disabled", "reset")
            raise EngineUnavailable(
                f"The audio was sent to the engine {task.engine}, which is no longer switched on "
                "here. It may still be billed, so it was not sent to another engine.",
                log=await self._close_late(job, task),
            )
        engine = self._engines[task.engine]
        report = await self._poll(job, engine, task)
        texts = await self._fetch_results(job, engine, task, report)
        done_ms = await self._complete(job, task, report, texts)
        self._pacing.forget(job.id)
        return done_ms

    async def cancel(self, job_id: str, upto: int | None = None) -> None:
        """Cancel a job's pending tasks of runs up to the epoch `upto` at the provider.

        Best effort: a task that has begun cannot be cancelled, and nothing is raised.
        """
        self._pacing.forget(job_id)
        try:
            for task in await self._db.read(store.find_active, job_id, upto):
                engine = self._engines.get(task.engine)
                if engine is not None and await engine.cancel(task.task_id):
                    now = self._now()
                    await self._db.write(store.close_cancelled, task.call_id, now=now)
                    log.info("task.cancelled", job=job_id)
        except (EngineError, DatabaseUnavailable) as error:
            log.warning("task.not_cancelled", job=job_id, reason=type(error).__name__)

    # ── polling ─────────────────────────────────────────────────────────────────────────────

    async def _poll(self, job: Job, engine: TaskEngine, task: KnownTask) -> TaskReport:
        """Poll the task once and return its report where it is done; raises otherwise."""
        try:
            report = await engine.report(task.task_id)
            report = replace(report, usage=storable_usage(report.usage))
        except EngineError as error:
            log.info("task.poll_failed", kind=error.kind, reason=error.log)
            await self._poll_later(job, engine, task, error)
        match report.status:
            case TaskStatus.OPEN:
                await self._poll_later(job, engine, task)
            case TaskStatus.UNKNOWN:
                if (self._now() - task.opened_at).total_seconds() < UNKNOWN_TASK_SECONDS:
                    await self._poll_later(job, engine, task)
                reason = "the upstream does not know the task"
                unknown = EngineError(ErrorKind.MALFORMED, reason, billed=Billed.MAYBE)
                await self._close_failed(job, task, unknown)
                raise UpstreamInDoubt(
                    "The speech service no longer knows a task that it had accepted, and may have "
                    "billed it. A new request transcribes the audio again.",
                    log=reason,
                )
            case TaskStatus.CANCELLED:
                reason = "the task was cancelled upstream"
                await self._close_failed(job, task, EngineError(ErrorKind.REJECTED, reason))
                if task.is_before_retry:  # the job was cancelled, and then retried
                    raise Deferred(0.0, "task_cancelled")
                raise EngineFailed("The task was cancelled at the speech service.", log=reason)
            case TaskStatus.FAILED:
                await self._retry_or_fail(job, task, report)
        return report

    async def _poll_later(
        self, job: Job, engine: TaskEngine, task: KnownTask, error: EngineError | None = None
    ) -> NoReturn:
        """Raise Deferred until the next poll, or EngineTimeout where the task takes too long.

        `error` is that of a failed poll.
        """
        waited = self._waited(task)
        if waited < self._settings.task_timeout_seconds:
            pause = self._pacing.before_poll(job.id, waited, engine.polls_per_second)
            if error is None:
                raise Deferred(pause, "task_pending", "reset")
            pause = max(pause, error.retry_after or 0.0)
            raise Deferred(pause, "poll_failed", "reset", kind=error.kind)
        raise EngineTimeout(
            "The speech service did not finish the task in time. The task may still be billed, so "
            "the audio was not sent again.",
            log=await self._close_late(job, task),
        )

    async def _retry_or_fail(self, job: Job, task: KnownTask, report: TaskReport) -> NoReturn:
        """Raise Deferred where a failed task may be submitted again, else the job's error.

        A task that failed is free of charge unless its report has used seconds.
        """
        failed = report.failure or FileResult()
        error = failed.error or EngineError(ErrorKind.INTERNAL, "the task failed")
        if report.usage.seconds:
            await self._settle_without_result(job, task, report)
            raise result.public_error_of(job, failed, error)
        attempts = await self._close_failed(job, task, error)
        self._addresses.forget(job.id)
        # A task that the provider itself gave up after hours would take as long again.
        may_repeat = error.kind is not ErrorKind.TIMEOUT and not failed.unreadable
        decision = retry_policy.on_failure(error, attempts, remote=True)
        if may_repeat and decision.wait is not None:
            pause = self._pacing.jittered(decision.wait)
            raise Deferred(pause, "task_failed", kind=error.kind)
        raise result.public_error_of(job, failed, error)

    async def _close_late(self, job: Job, task: KnownTask) -> str:
        """Close the call of a task that takes too long as in doubt; return the reason to log."""
        reason = f"the task has not ended after {self._waited(task):.0f} s"
        late = EngineError(ErrorKind.TIMEOUT, reason, billed=Billed.MAYBE)
        await self._close_failed(job, task, late)
        return reason

    async def _close_failed(self, job: Job, task: KnownTask, error: EngineError) -> AttemptCounts:
        self._pacing.forget(job.id)
        log.warning("call.failed", engine=task.engine, kind=error.kind, reason=error.log)
        span = store.span_of(job, "", self._longest_ms)
        return await write_of_run(
            self._db,
            calls.close_failed,
            job,
            _route_of_task(job, task),
            span,
            task.call_id,
            error,
            now=self._now(),
        )

    # ── results ─────────────────────────────────────────────────────────────────────────────

    async def _fetch_results(
        self, job: Job, engine: TaskEngine, task: KnownTask, report: TaskReport
    ) -> list[FileText | None]:
        """Fetch the text of each file; None for a file that failed or holds no speech."""
        async with self._results:
            try:
                texts = [
                    await engine.result(file.result_url) if file.result_url else None
                    for file in report.files
                ]
                return [text and replace(text, text=storable_part(text.text)) for text in texts]
            except EngineError as error:
                log.warning("task.no_result", kind=error.kind, reason=error.log)
                failure = error
        # The result is paid for, so it is requested until it expires. A malformed one is unlikely
        # to change and is given up at the task's timeout.
        waited, timeout = (self._now() - task.opened_at).total_seconds(), RESULT_TIMEOUT_SECONDS
        if failure.kind is ErrorKind.MALFORMED:
            waited, timeout = self._waited(task), self._settings.task_timeout_seconds
        if waited < timeout:
            pause = self._pacing.before_poll(job.id, waited, engine.polls_per_second)
            raise Deferred(pause, "no_result", "reset", kind=failure.kind)
        await self._settle_without_result(job, task, report)
        raise EngineFailed("The speech service's result could not be fetched.", log=failure.log)

    async def _complete(
        self, job: Job, task: KnownTask, report: TaskReport, texts: list[FileText | None]
    ) -> int:
        """Store the transcript, settle the call and complete the job; return its milliseconds."""
        parts = result.in_sequence(report, texts)
        length_ms = result.length_ms(job.duration_ms, parts)
        transcript = await asyncio.to_thread(
            result.transcript_of, parts, length_ms, with_words=job.options.word_timestamps
        )
        answer = result.answer_of(transcript, report, texts, task.request_id)
        span = PartSpan(0, 0, length_ms, length_ms, None)
        answered = Answered(_route_of_task(job, task), task.call_id, span, answer)
        warnings = result.task_warnings(report, texts)
        await write_of_run(
            self._db, store.complete_task, job, answered, transcript, warnings, now=self._now()
        )
        return length_ms

    async def _settle_without_result(self, job: Job, task: KnownTask, report: TaskReport) -> None:
        """Settle a task that is billed although it brought no text."""
        self._pacing.forget(job.id)
        length_ms = job.duration_ms or 0
        span = PartSpan(0, 0, length_ms, length_ms, None)
        answer = EngineAnswer("", usage=report.usage)
        used = calls.usage_of(job, Answered(_route_of_task(job, task), task.call_id, span, answer))
        raw = report.usage.raw
        await write_of_run(
            self._db, store.settle_without_result, job, task.call_id, used, raw, now=self._now()
        )

    def _waited(self, task: KnownTask) -> float:
        """Return the seconds since the job, or its retry, began to wait for the task."""
        return (self._now() - task.awaited_since).total_seconds()


def _route_of_task(job: Job, task: KnownTask) -> Route:
    return next(route for route in job.routes if route.engine == task.engine)
