"""Asking the engine for one part: its turn awaited, the call written down, made, and closed.

What failed is tried again where that is safe; see EngineError.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from app.audio.children import Decoders
from app.audio.encode import flac
from app.db.engine import Database
from app.jobs import calls
from app.jobs.calls import Stretch
from app.jobs.faults import public_error
from app.jobs.runs import Job
from app.jobs.surely import surely
from app.kit.clock import Clock
from app.settings import JobSettings
from app.speech.contract import (
    Billed,
    Encoded,
    Engine,
    EngineAnswer,
    EngineError,
    EngineRequest,
    PartAudio,
    Pcm,
)

MOST_TRIES = 3  # calls for one part that fail and may be tried again
LONGEST_PAUSE_SECONDS = 30.0

log = structlog.get_logger()


class Asker:
    """Asks engines with the parts it is given."""

    def __init__(
        self, db: Database, decoders: Decoders, *, settings: JobSettings, clock: Clock
    ) -> None:
        self._db = db
        self._decoders = decoders
        self._settings = settings
        self._now = clock

    async def ask(
        self,
        job: Job,
        engine: Engine,
        stretch: Stretch,
        audio: PartAudio,
        silent: Sequence[Stretch],
        *,
        instead: Callable[[], Awaitable[Pcm]] | None = None,
    ) -> tuple[str, EngineAnswer]:
        """Return the answered call's id and the answer. `silent` are stored with the first call.

        `instead` brings the same sound in our own form, in case the engine refuses `audio`'s.
        Raises GatewayError, StaleRun and DatabaseAway.
        """
        try:
            return await self._insist(job, engine, stretch, audio, silent)
        except EngineError as error:
            if instead is None or not error.about_form or error.billed is not Billed.NO:
                raise public_error(error) from error
        return await self.ask(job, engine, stretch, await instead(), silent)

    async def _insist(
        self,
        job: Job,
        engine: Engine,
        stretch: Stretch,
        audio: PartAudio,
        silent: Sequence[Stretch],
    ) -> tuple[str, EngineAnswer]:
        """Ask, and ask again after failures where that is safe. Raises EngineError."""
        request = self._request(job, await self._as_taken(engine, audio))
        for tries in range(1, MOST_TRIES + 1):
            try:
                return await self._once(job, engine, stretch, request, silent)
            except EngineError as error:
                if not error.retryable or error.billed is Billed.YES or tries == MOST_TRIES:
                    raise
                await asyncio.sleep(_rest(error, tries))
        raise AssertionError("unreachable: the last try returns or raises")

    async def _as_taken(self, engine: Engine, audio: PartAudio) -> PartAudio:
        if engine.takes == "pcm" or isinstance(audio, Encoded):
            return audio
        return Encoded(await flac(audio.data, self._decoders), "flac", audio.millis)

    async def _once(
        self,
        job: Job,
        engine: Engine,
        stretch: Stretch,
        request: EngineRequest,
        silent: Sequence[Stretch],
    ) -> tuple[str, EngineAnswer]:
        await engine.admit(request.model, request.deadline_seconds)
        call_id = await self._db.write(
            calls.open_call,
            job,
            stretch,
            silent,
            retry_in_doubt=self._settings.in_doubt == "retry",
            now=self._now(),
        )
        try:
            return call_id, await engine.transcribe(request)
        except EngineError as error:
            log.warning("call.failed", kind=error.kind, billed=error.billed, why=error.log)
            await surely(
                self._db, calls.close_failed, job, stretch, call_id, error, now=self._now()
            )
            raise

    def _request(self, job: Job, audio: PartAudio) -> EngineRequest:
        options = job.options
        return EngineRequest(
            audio=audio,
            model=job.plan["upstream_model"],
            deadline_seconds=self._settings.call_seconds,
            language=options["language"],
            context=options["context"],
            words=options["words"],
            options=options["engine"],
        )


def _rest(error: EngineError, tries: int) -> float:
    """Seconds before the next try: what the upstream asked for, else doubling."""
    return min(error.retry_after or float(2**tries), LONGEST_PAUSE_SECONDS)
