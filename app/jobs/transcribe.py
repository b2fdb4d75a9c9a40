"""The use-case: take a job up, cut its recording, ask the engine, settle, end it.

`advance` is the only way a job moves. It may be called by anybody at any time, again and
again: what is stored is never done or paid for a second time.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog

from app.audio.children import Decoders
from app.audio.normalise import Decoding, Refusal, decode
from app.audio.split import Piece, pieces
from app.audio.store import BlobStore
from app.db.engine import Database
from app.errors import (
    DatabaseAway,
    GatewayError,
    InternalError,
    RecordingMissing,
    RunCrashed,
    Undecodable,
)
from app.jobs import calls, outcome, runs
from app.jobs.ask import Asker
from app.jobs.collect import Collector
from app.jobs.lease import kept
from app.jobs.progress import Progress, speaking, stretch_of
from app.jobs.runs import Job, PutOff, StaleRun
from app.jobs.surely import surely
from app.kit.clock import Clock
from app.kit.log import story_of
from app.settings import JobSettings
from app.speech.contract import Encoded, Engine, PartAudio, Pcm
from app.speech.plan import too_long_for_one_call

SLACK_SECONDS = 1.0  # between what a header vouches for and what a decoder makes of it

log = structlog.get_logger()


class Transcriber:
    """Advances jobs with the engines it is given."""

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        engines: Mapping[str, Engine],
        collector: Collector,
        *,
        decoders: Decoders,
        max_seconds: float,
        settings: JobSettings,
        clock: Clock,
    ) -> None:
        self._db = db
        self._store = store
        self._engines = engines
        self._collector = collector
        self._decoders = decoders
        self._max_seconds = max_seconds
        self._settings = settings
        self._now = clock
        self._asker = Asker(db, engines, decoders, settings=settings, clock=clock)

    async def advance(self, job_id: str, claimed: Job | None = None) -> timedelta | None:
        """Work on a job as far as it goes; return when to call again, or None.

        None: there is nothing left to do here, as it has ended or another worker holds it.
        `claimed` is the job where the caller already holds its lease (see submit).
        """
        try:
            job = claimed or await self._take_up(job_id)
        except DatabaseAway:
            return self._pause
        if job is None:
            return None
        with structlog.contextvars.bound_contextvars(job=job.id, epoch=job.run.epoch):
            return await self._run(job)

    async def _take_up(self, job_id: str) -> Job | None:
        return await self._db.write(
            self._claim, job_id, lease_seconds=self._settings.lease_seconds, now=self._now()
        )

    def _claim(
        self, tx: sa.Connection, /, job_id: str, *, lease_seconds: float, now: datetime
    ) -> Job | None:
        job = runs.take_up(tx, job_id, lease_seconds=lease_seconds, now=now)
        if job is not None:
            calls.close_unseen(tx, job.id, remote=self._is_remote(job), now=now)
        return job

    async def _run(self, job: Job) -> timedelta | None:
        try:
            if job.idle_runs > runs.MOST_IDLE_RUNS:
                raise RunCrashed  # noqa: TRY301 - ends the job like any other failure
            async with kept(self._db, job.run):
                if job.source_url is not None:
                    job = await self._collector.collect(job, job.source_url)
                await self._transcribe(job)
        except StaleRun:
            log.info("run.stale")
        except asyncio.CancelledError:
            await self._hand_back(job)
            raise
        except DatabaseAway:
            return self._pause
        except PutOff as wait:
            return await self._put_off(job, wait.seconds)
        except RecordingMissing:
            log.error("run.recording_missing")  # noqa: TRY400 - there is nothing to trace
            await self._hand_back(job, was_idle=True)
        except GatewayError as error:
            await self._fail(job, error)
        except Exception as error:  # noqa: BLE001 - a job must end, whatever broke
            log.error("run.broke", frames=story_of(error))  # noqa: TRY400 - no message in a log
            await self._fail(job, InternalError())
        return None

    async def _fail(self, job: Job, error: GatewayError) -> None:
        log.info("job.failed", code=error.code, why=error.log)
        with suppress(StaleRun):
            await surely(
                self._db, outcome.fail, job, error, remote=self._is_remote(job), now=self._now()
            )

    async def _put_off(self, job: Job, seconds: float) -> timedelta:
        log.info("job.put_off", seconds=round(seconds, 1))
        try:
            await self._db.write(runs.put_off, job.run, seconds, now=self._now())
        except DatabaseAway:
            return self._pause
        return timedelta(seconds=seconds)

    async def _hand_back(self, job: Job, *, was_idle: bool = False) -> None:
        with suppress(DatabaseAway):  # then the lease ends by itself
            await self._db.write(runs.hand_back, job.run, was_idle=was_idle)

    async def _transcribe(self, job: Job) -> None:
        progress = Progress()
        async with self._store.local_copy(job.blob_key) as path:
            if job.plan.get("as_is"):
                await self._do_whole(job, path, progress)
            else:
                await self._do_parts(job, path, progress)
        log.info("job.completed", seconds=progress.done_ms / 1000)

    async def _do_parts(self, job: Job, path: Path, progress: Progress) -> None:
        """Transcribe what is decoded, in parts as the plan says."""
        async with self._decode_parts(job, path) as decoding:
            cut = pieces(
                decoding.blocks(),
                limit_seconds=job.plan["part_seconds"],
                cut=job.plan["kind"] == "split",
                least_speech_ms=job.plan["least_speech_ms"],
                known=[(row.start_ms, row.end_ms) for row in job.parts],
            )
            done = {row.index for row in job.parts if row.result is not None}
            async with aclosing(cut), aclosing(speaking(cut, progress, done)) as spoken:
                async for piece, is_last in spoken:
                    await self._do_part(job, piece, progress, decoding if is_last else None)
        if not progress.ended:
            progress.note_length(job, decoding)
            words = await asyncio.to_thread(outcome.merged, progress.texts)
            await surely(self._db, self._end, job, progress, words, now=self._now())

    async def _do_whole(self, job: Job, path: Path, progress: Progress) -> None:
        """Transcribe the recording by sending its very bytes: one part, nothing decoded."""
        whole = Piece(0, 0, job.duration_ms or 0, job.duration_ms or 0, b"")
        data = await asyncio.to_thread(path.read_bytes)
        stretch = stretch_of(whole, await _sha256(data))
        audio: PartAudio = Encoded(data, job.plan["form"], stretch.length_ms)
        instead: Callable[[], Awaitable[Pcm]] | None = partial(self._decoded, job, path, progress)
        if await self._was_refused(job):
            audio, instead = await self._decoded(job, path, progress), None
        answered = await self._asker.ask(job, stretch, audio, (), instead=instead)
        progress.add(whole, calls.heard(answered.answer, answered.route.engine))
        words = await asyncio.to_thread(outcome.merged, progress.texts)
        await surely(self._db, self._keep, job, answered, progress, words, now=self._now())

    async def _was_refused(self, job: Job) -> bool:
        """Tell whether an earlier run met an engine that does not take the bytes as they are."""
        return job.run.epoch > 1 and await self._db.read(calls.was_refused, job.id)

    async def _decoded(self, job: Job, path: Path, progress: Progress) -> Pcm:
        """Decode all of a recording whose bytes the engine refused as they are.

        It is held in memory, so it must be no longer than what its header vouched for.
        """
        most = (job.duration_ms or 0) / 1000 + SLACK_SECONDS
        async with self._decode(job, path, most, partial(_longer_than_said, most)) as decoding:
            sound = b"".join([block async for block in decoding.blocks()])
            progress.note_length(job, decoding)
        detail = "The engine did not take the recording as it was received: it was decoded first."
        progress.warnings.append({"code": "sent_decoded", "detail": detail})
        return Pcm(sound)

    def _decode_parts(self, job: Job, path: Path) -> AbstractAsyncContextManager[Decoding]:
        if job.plan.get("may_split", True):
            return self._decode(job, path, self._max_seconds)
        most = job.plan["part_seconds"]
        refuse = partial(too_long_for_one_call, job.account.model, most)
        return self._decode(job, path, min(most, self._max_seconds), refuse)

    def _decode(
        self, job: Job, path: Path, most: float, refuse: Refusal | None = None
    ) -> AbstractAsyncContextManager[Decoding]:
        raw_rate = job.options.get("raw_rate")
        return decode(
            path, decoders=self._decoders, max_seconds=most, refuse=refuse, raw_rate=raw_rate
        )

    async def _do_part(
        self, job: Job, piece: Piece, progress: Progress, finished: Decoding | None
    ) -> None:
        """Transcribe one part, unless an earlier run did; `finished` comes with the last one."""
        stored = next((row for row in job.parts if row.index == piece.index), None)
        if stored is not None and stored.result is not None:
            progress.add(piece, stored.result)
            return
        stretch = stretch_of(piece, await _sha256(piece.pcm))
        answered = await self._asker.ask(job, stretch, Pcm(piece.pcm), progress.silent)
        progress.add(piece, calls.heard(answered.answer, answered.route.engine))
        words = None
        if finished is not None:
            progress.note_length(job, finished)
            words = await asyncio.to_thread(outcome.merged, progress.texts)
        await surely(self._db, self._keep, job, answered, progress, words, now=self._now())
        progress.silent.clear()
        progress.ended = finished is not None

    def _keep(
        self,
        tx: sa.Connection,
        /,
        job: Job,
        answered: calls.Answered,
        progress: Progress,
        words: Mapping[str, Any] | None,
        *,
        now: datetime,
    ) -> None:
        """Store an answered part; with the last one come all `words`, and the job ends too."""
        if calls.is_answered(tx, answered.call_id):
            return  # an earlier try was committed after all
        done_ms = answered.stretch.end_ms
        total_ms = max(job.duration_ms or 0, done_ms)
        said = {"done_seconds": done_ms / 1000, "total_seconds": total_ms / 1000}
        runs.write_as(
            tx,
            job.run,
            now=now,
            events=[("progress", said)],
            done_ms=done_ms,
            idle_runs=0,
            waiting_since=None,
        )
        keep_raw = "raw" in job.options["include"]
        calls.close_answered(tx, job, answered, keep_raw=keep_raw, now=now)
        if words is not None:
            self._end(tx, job, progress, words, now=now)

    @staticmethod
    def _end(
        tx: sa.Connection,
        /,
        job: Job,
        progress: Progress,
        words: Mapping[str, Any],
        *,
        now: datetime,
    ) -> None:
        outcome.complete(
            tx, job, words, warnings=progress.said(job), done_ms=progress.done_ms, now=now
        )
        calls.store_parts(tx, job, progress.silent)

    @property
    def _pause(self) -> timedelta:
        """How long until a lease that could not be given back has run out."""
        return timedelta(seconds=self._settings.lease_seconds)

    def _is_remote(self, job: Job) -> bool:
        engine = self._engines.get(job.engine)
        return engine is None or engine.remote


def _longer_than_said(most_seconds: float) -> Undecodable:
    return Undecodable(
        f"The recording is longer than its header says: more than the {most_seconds:.1f} s that it "
        "says. As it is, the engine refused it."
    )


async def _sha256(data: bytes) -> str:
    return (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
