"""Calls an engine for one part: admission, the call's row, the call itself, and its outcome.

A failed call is retried where that is safe, on the same route or on another route of the job.
Where that means a long wait, the job is deferred. See `EngineError` and `retry_policy`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from datetime import datetime, timedelta

from app.audio.decoding.flac import encode_flac
from app.audio.ffmpeg import Decoders
from app.db.database import Database
from app.errors import EngineUnavailable
from app.jobs.store import calls
from app.jobs.store.attempts import AttemptCounts, exhausted_engines
from app.jobs.store.calls import Answered
from app.jobs.store.durable_write import write_of_run
from app.jobs.store.job import Job
from app.jobs.store.live_text import TextSink
from app.jobs.store.parts import PartSpan
from app.jobs.store.routes import Route
from app.jobs.store.runs import DeferReason, Deferred
from app.jobs.upstream import retry_policy
from app.jobs.upstream.call_permit import CallPermit
from app.jobs.upstream.engine_errors import public_error
from app.jobs.upstream.retry_policy import LONG_SECONDS, RetryDecision
from app.kit.clock import Clock
from app.kit.log import log
from app.kit.records import dataclass
from app.settings import JobSettings
from app.speech.engine import (
    Billed,
    CallSlot,
    EncodedAudio,
    Engine,
    EngineError,
    EngineRequest,
    PartAudio,
    Pcm,
)
from app.speech.storable_answer import storable_answer


@dataclass(eq=False, slots=True)
class FirstCall:
    """The first call of a job, which was admitted and recorded in the commit that created the job.

    `held_nano` is all that the job holds with this call.
    """

    call_id: str
    engine: str
    slot: CallSlot
    held_nano: int
    is_taken: bool = False
    was_only_call: bool = True

    def discard(self) -> None:
        """Release the slot of a call that was not made."""
        if not self.is_taken:
            self.slot.release()


@dataclass(frozen=True, slots=True)
class PartCall:
    """One part, or a half of it, as it is sent to an engine.

    `unstored` are spans before this one whose rows are stored with the call. `on_delta` receives
    text as it arrives; the text of a failed call is discarded. `first` is the call that was
    recorded with the job.
    """

    job: Job
    span: PartSpan
    unstored: Sequence[PartSpan] = ()
    permit: CallPermit = field(default_factory=CallPermit)
    on_delta: TextSink | None = None
    first: FirstCall | None = None


class _FailedError(Exception):
    """A call that failed or was not admitted; `decision` is the decision of the retry policy."""

    def __init__(
        self, error: EngineError, decision: RetryDecision, *, was_admitted: bool = True
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.decision = decision
        self.was_admitted = was_admitted


class UpstreamCaller:
    """Calls the engines of this process for the parts of jobs."""

    def __init__(
        self,
        db: Database,
        engines: Mapping[str, Engine],
        decoders: Decoders,
        *,
        settings: JobSettings,
        clock: Clock,
    ) -> None:
        self._db = db
        self._engines = engines
        self._decoders = decoders
        self._settings = settings
        self._now = clock

    async def call(
        self,
        call: PartCall,
        audio: PartAudio,
        fallback: Callable[[], Awaitable[Pcm]] | None = None,
    ) -> Answered:
        """Return the answered call for a part; parts of a job may be called for concurrently.

        `fallback` returns the same audio decoded, should an engine reject the format of `audio`.
        Raises Deferred, CallsStopped, GatewayError, StaleRun and DatabaseUnavailable.
        """
        try:
            return await self._call_with_retries(call, audio)
        except _FailedError as failed:
            error = failed.error
            if fallback is None or not error.format_rejected or error.billed is not Billed.NO:
                raise public_error(error) from error
        return await self.call(call, await fallback())

    def first_engine(self, job: Job) -> Engine:
        """Return the engine of the job's first route that is open. Raises EngineUnavailable."""
        for route in job.routes:
            if route.engine in self._engines:
                return self._engines[route.engine]
        raise EngineUnavailable(f"The engine {job.engine} is no longer switched on here.")

    async def in_engine_format(self, job: Job, audio: PartAudio) -> PartAudio:
        """Return the audio in the format that the job's engine accepts: PCM or a FLAC file."""
        if self.first_engine(job).accepts == "pcm" or isinstance(audio, EncodedAudio):
            return audio
        return EncodedAudio(await encode_flac(audio.data, self._decoders), "flac", audio.millis)

    async def _call_with_retries(self, call: PartCall, audio: PartAudio) -> Answered:
        """Call the route that can be called first, for as long as the retry policy allows.

        Raises _FailedError where no route is left, Deferred, EngineUnavailable, and the last error
        at the timeout.
        """
        job = call.job
        self.first_engine(job)
        open_routes = [route for route in job.routes if route.engine in self._engines]
        routes = {route.engine: route for route in open_routes}
        if len(routes) > 1:
            exhausted = await self._db.read(exhausted_engines, job.id, call.span.index)
            routes = {name: one for name, one in routes.items() if name not in exhausted}
            routes = routes or {open_routes[-1].engine: open_routes[-1]}
        audio = await self.in_engine_format(job, audio)
        since, now = job.deferred_since or self._now(), asyncio.get_running_loop().time
        free_at = dict.fromkeys(routes, 0.0)  # in the order of preference
        engine = next(iter(routes))
        while True:
            call.permit.check()
            try:
                return await self._call_route(call, routes[engine], audio)
            except _FailedError as failed:
                call.permit.check()
                delay, try_next_route = failed.decision.wait, failed.decision.try_next_route
                if delay is None:
                    del free_at[engine]
                else:
                    free_at[engine] = now() + delay
                if not free_at or (delay is None and not try_next_route):
                    raise
                if try_next_route:
                    engine = min(free_at, key=lambda one: max(free_at[one], now()))
                    log.info("call.next_route", engine=engine, reason=failed.error.kind)
                await self._wait(since, free_at[engine] - now(), failed)

    async def _wait(self, since: datetime, seconds: float, failed: _FailedError) -> None:
        """Sleep, or defer the job where the wait is long. Raises the error at the retry timeout."""
        if seconds <= 0:
            return
        error = failed.error
        timeout = timedelta(seconds=self._settings.retry_timeout_seconds)
        left = (since + timeout - self._now()).total_seconds()
        if left <= 0:
            raise public_error(error) from error
        pause = min(seconds, left)
        if pause > LONG_SECONDS:
            reason: DeferReason = "call_failed" if failed.was_admitted else "not_admitted"
            raise Deferred(pause, reason, kind=error.kind) from error
        await asyncio.sleep(pause)

    async def _call_route(self, call: PartCall, route: Route, audio: PartAudio) -> Answered:
        """Admit, record and make one call on this route. Raises _FailedError."""
        engine = self._engines[route.engine]
        options = call.job.options
        request = EngineRequest(
            audio=audio,
            model=route.upstream_model,
            deadline_seconds=self._settings.call_timeout_seconds,
            language=options.language,
            context=options.context,
            word_timestamps=options.word_timestamps,
            options=options.engine_options,
        )
        first = call.first
        if first is not None and not first.is_taken and first.engine == route.engine:
            first.is_taken = True
            try:
                call.permit.begin()
                return await self._make_call(call, route, request, first.call_id)
            finally:
                first.slot.release()
        if first is not None:
            first.was_only_call = False
        try:
            async with engine.admit(request.model, request.deadline_seconds, call.job.priority):
                call.permit.begin()
                call_id = await self._db.write(
                    calls.open_call,
                    call.job,
                    route,
                    call.span,
                    call.unstored,
                    retry_in_doubt=self._settings.in_doubt == "retry",
                    now=self._now(),
                )
                return await self._make_call(call, route, request, call_id)
        except EngineError as error:  # of the admission: a failed call raises _FailedError
            decision = retry_policy.on_not_admitted(error)
            raise _FailedError(error, decision, was_admitted=False) from error

    async def _make_call(
        self, call: PartCall, route: Route, request: EngineRequest, call_id: str
    ) -> Answered:
        """Make a recorded call; close it where it fails. Raises _FailedError."""
        engine = self._engines[route.engine]
        try:
            answer = await engine.transcribe(request, call.on_delta)
        except EngineError as error:
            log.warning(
                "call.failed",
                engine=route.engine,
                kind=error.kind,
                billed=error.billed,
                reason=error.log,
            )
            attempts = await self._close_failed(call, route, call_id, error)
            call.permit.ended()
            decision = retry_policy.on_failure(error, attempts, remote=engine.remote)
            raise _FailedError(error, decision) from error
        return Answered(route, call_id, call.span, storable_answer(answer, call.span.length_ms))

    async def _close_failed(
        self, call: PartCall, route: Route, call_id: str, error: EngineError
    ) -> AttemptCounts:
        sink = call.on_delta
        attempts = await write_of_run(
            self._db,
            calls.close_failed,
            call.job,
            route,
            call.span,
            call_id,
            error,
            voids=sink is not None and sink.was_published,
            now=self._now(),
        )
        if sink is not None:
            sink.discard()
        return attempts
