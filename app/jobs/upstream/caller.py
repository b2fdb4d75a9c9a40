"""Asking an engine for one part: its turn awaited, the call written down, made, and closed.

What failed is tried again where that is safe, here or on another route of the job; where that
means a long wait, the job is put off. See EngineError and tries.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from app.audio.encode import flac
from app.audio.ffmpeg import Decoders
from app.db.database import Database
from app.errors import EngineUnavailable
from app.jobs.store import calls
from app.jobs.store.attempts import AttemptCounts, exhausted_engines
from app.jobs.store.calls import Answered
from app.jobs.store.durable_write import surely
from app.jobs.store.job import Job
from app.jobs.store.live_text import TextSink
from app.jobs.store.parts import PartSpan
from app.jobs.store.routes import Route
from app.jobs.store.runs import PutOff
from app.jobs.upstream import retry_policy
from app.jobs.upstream.call_permit import CallPermit
from app.jobs.upstream.engine_errors import public_error
from app.jobs.upstream.retry_policy import LONG_SECONDS, RetryDecision
from app.kit.clock import Clock
from app.settings import JobSettings
from app.speech.engine import Billed, Encoded, Engine, EngineError, EngineRequest, PartAudio, Pcm

log = structlog.get_logger()


class _FailedError(Exception):
    """An engine brought nothing, and what follows from that."""

    def __init__(self, error: EngineError, verdict: RetryDecision) -> None:
        super().__init__(str(error))
        self.error = error
        self.verdict = verdict


class UpstreamCaller:
    """Asks engines with the parts it is given."""

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

    async def ask(
        self,
        job: Job,
        stretch: PartSpan,
        audio: PartAudio,
        silent: Sequence[PartSpan],
        *,
        instead: Callable[[], Awaitable[Pcm]] | None = None,
        sending: CallPermit | None = None,
        on_delta: TextSink | None = None,
    ) -> Answered:
        """Return the answered call. `silent` are stored with the first call, as are other parts.

        `on_delta` is told the text as it comes; what a failed call told is void again. `instead`
        brings the same sound in our own form, in case the engine refuses `audio`'s.
        It may be called for several stretches of a job at once; `sending` says of this one
        whether a call is under way, and can keep it from making more: it raises CalledOff then.
        Raises PutOff, GatewayError, StaleRun and DatabaseAway.
        """
        sending = sending or CallPermit()
        try:
            return await self._insist(job, stretch, audio, silent, sending, on_delta)
        except _FailedError as failed:
            error = failed.error
            if instead is None or not error.about_form or error.billed is not Billed.NO:
                raise public_error(error) from error
        sound = await instead()
        return await self.ask(job, stretch, sound, silent, sending=sending, on_delta=on_delta)

    def first_engine(self, job: Job) -> Engine:
        """Return the engine that a job's parts are for. Raises EngineUnavailable."""
        for route in job.routes:
            if route.engine in self._engines:
                return self._engines[route.engine]
        raise EngineUnavailable(f"The engine {job.engine} is no longer switched on here.")

    async def as_taken(self, job: Job, audio: PartAudio) -> PartAudio:
        """Return sound in the form in which the job's engine takes it."""
        if self.first_engine(job).accepts == "pcm" or isinstance(audio, Encoded):
            return audio
        return Encoded(await flac(audio.data, self._decoders), "flac", audio.millis)

    async def _insist(
        self,
        job: Job,
        stretch: PartSpan,
        audio: PartAudio,
        silent: Sequence[PartSpan],
        sending: CallPermit,
        on_delta: TextSink | None,
    ) -> Answered:
        """Ask the first route that may be asked now, or soonest, for as long as that may help.

        Raises _FailedError where no route is left, PutOff, and what the patience ends with.
        """
        routes = {route.engine: route for route in await self._routes(job, stretch)}
        sound = await self.as_taken(job, audio)
        since, now = job.deferred_since or self._now(), asyncio.get_running_loop().time
        free_at = dict.fromkeys(routes, 0.0)  # in the order of preference
        engine = next(iter(routes))
        while True:
            sending.check()
            try:
                return await self._once(
                    job, routes[engine], stretch, sound, silent, sending, on_delta
                )
            except _FailedError as failed:
                sending.check()
                wait, try_next_route = failed.verdict.wait, failed.verdict.try_next_route
                if wait is None:
                    del free_at[engine]
                else:
                    free_at[engine] = now() + wait
                if not free_at or (wait is None and not try_next_route):
                    raise
                if try_next_route:
                    engine = min(free_at, key=lambda one: max(free_at[one], now()))
                    log.info("call.next", engine=engine, reason=failed.error.kind)
                await self._wait(since, free_at[engine] - now(), failed.error)

    async def _routes(self, job: Job, stretch: PartSpan) -> Sequence[Route]:
        """Return whom to ask, in order. Raises EngineUnavailable where nobody is left."""
        self.first_engine(job)
        routes = [route for route in job.routes if route.engine in self._engines]
        if len(routes) == 1:
            return routes
        spent = await self._db.read(exhausted_engines, job.id, stretch.index)
        return [route for route in routes if route.engine not in spent] or routes[-1:]

    async def _wait(self, since: datetime, seconds: float, error: EngineError) -> None:
        """Wait here, or put the job off. Raises the error where the patience `since` is over."""
        if seconds <= 0:
            return
        patience = timedelta(seconds=self._settings.retry_timeout_seconds)
        left = (since + patience - self._now()).total_seconds()
        if left <= 0:
            raise public_error(error) from error
        pause = min(seconds, left)
        if pause > LONG_SECONDS:
            raise PutOff(pause) from error
        await asyncio.sleep(pause)

    async def _once(
        self,
        job: Job,
        route: Route,
        stretch: PartSpan,
        audio: PartAudio,
        silent: Sequence[PartSpan],
        sending: CallPermit,
        on_delta: TextSink | None,
    ) -> Answered:
        engine, request = self._engines[route.engine], self._request(job, route, audio)
        try:
            async with engine.admit(request.model, request.deadline_seconds, job.priority):
                return await self._called(job, route, stretch, request, silent, sending, on_delta)
        except EngineError as error:  # of its turn: what becomes of the call is a _FailedError
            raise _FailedError(error, retry_policy.on_not_admitted(error)) from error

    async def _called(
        self,
        job: Job,
        route: Route,
        stretch: PartSpan,
        request: EngineRequest,
        silent: Sequence[PartSpan],
        sending: CallPermit,
        on_delta: TextSink | None,
    ) -> Answered:
        engine = self._engines[route.engine]
        sending.begin()
        call_id = await self._db.write(
            calls.open_call,
            job,
            route,
            stretch,
            silent,
            retry_in_doubt=self._settings.in_doubt == "retry",
            now=self._now(),
        )
        try:
            answer = await engine.transcribe(request, on_delta)
            return Answered(route, call_id, stretch, answer)
        except EngineError as error:
            log.warning(
                "call.failed",
                engine=route.engine,
                kind=error.kind,
                billed=error.billed,
                reason=error.log,
            )
            before = await self._close_failed(job, route, stretch, call_id, error, on_delta)
            sending.ended()
            verdict = retry_policy.on_failure(error, before, remote=engine.remote)
            raise _FailedError(error, verdict) from error

    async def _close_failed(
        self,
        job: Job,
        route: Route,
        stretch: PartSpan,
        call_id: str,
        error: EngineError,
        on_delta: TextSink | None,
    ) -> AttemptCounts:
        voids = on_delta is not None and on_delta.was_published
        before = await surely(
            self._db,
            calls.close_failed,
            job,
            route,
            stretch,
            call_id,
            error,
            voids=voids,
            now=self._now(),
        )
        if on_delta is not None:
            on_delta.discard()
        return before

    def _request(self, job: Job, route: Route, audio: PartAudio) -> EngineRequest:
        options = job.options
        return EngineRequest(
            audio=audio,
            model=route.upstream_model,
            deadline_seconds=self._settings.call_timeout_seconds,
            language=options["language"],
            context=options["context"],
            words=options["words"],
            options=options["engine"],
        )
