"""Transcribe a recording in parts that are sent while later sound is still being decoded."""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial
from pathlib import Path
from typing import Any

from app.audio.encode import unflac
from app.audio.ffmpeg import Decoders
from app.audio.normalise import Decoding
from app.audio.split import pieces
from app.db.database import Database
from app.errors import GatewayError
from app.jobs.execution import loop_repair
from app.jobs.execution.audio_budget import Allocation, AudioBudget, RunShare
from app.jobs.execution.commit_part import (
    Completion,
    PartOutcome,
    ProgressUpdate,
    commit_completion,
    commit_part,
    publishing,
)
from app.jobs.execution.decode import JobDecoder, sha256
from app.jobs.execution.part_pool import PartPool
from app.jobs.execution.progress import Progress, stretch_of
from app.jobs.store import outcome
from app.jobs.store.calls import Answered
from app.jobs.store.durable_write import retried, to_the_end
from app.jobs.store.job import Job
from app.jobs.store.parts import PartSpan
from app.jobs.upstream.call_permit import CallPermit
from app.jobs.upstream.caller import UpstreamCaller
from app.jobs.upstream.engine_errors import is_of_part
from app.kit.clock import Clock
from app.settings import JobSettings
from app.speech.engine import Encoded, PartAudio, Pcm
from app.speech.planning.plan import too_long_for_one_call


class PartsWork:
    """What a run does of a job whose recording is decoded here."""

    def __init__(
        self,
        db: Database,
        asker: UpstreamCaller,
        decoder: JobDecoder,
        decoders: Decoders,
        *,
        max_seconds: float,
        settings: JobSettings,
        clock: Clock,
    ) -> None:
        self.db = db
        self.asker = asker
        self.decoders = decoders
        self.now = clock
        self._decoder = decoder
        self._max_seconds = max_seconds
        self._at_once = settings.max_concurrent_parts
        self._sound = AudioBudget(settings.audio_buffer_bytes)

    async def do(self, job: Job, path: Path) -> Progress:
        """Transcribe what is decoded, in parts as the plan says, and end the job."""
        engine = self.asker.first_engine(job)
        crew = PartPool(min(self._at_once, engine.max_concurrent_calls))
        run = PartsRun(self, job)
        await crew.work(self._cut(run, path, crew))
        if not run.progress.ended:
            await run.end()
        return run.progress

    async def _cut(self, run: "PartsRun", path: Path, crew: PartPool) -> None:
        """Cut what is decoded, and have each part that holds speech sent as soon as it is there."""
        job, progress, share = run.job, run.progress, RunShare(self._sound)
        async with self._decode(job, path) as decoding:
            cut = pieces(
                decoding.blocks(),
                limit_seconds=job.plan["part_seconds"],
                cut=job.plan["kind"] == "split",
                least_speech_ms=job.plan["least_speech_ms"],
                known=[(row.start_ms, row.end_ms) for row in job.parts],
            )
            async with aclosing(cut):
                async for piece in cut:
                    pcm = piece.pcm
                    stretch = stretch_of(piece, await sha256(pcm) if pcm else None)
                    del piece
                    is_sent = progress.cut(stretch)
                    run.listen(stretch, is_sent=is_sent)
                    if is_sent:
                        held = await share.take(len(pcm))
                        await crew.begin(partial(run.hear, stretch, pcm, held), held.give_back)
                    del pcm
            progress.note_length(decoding)
            progress.is_cut = True

    def _decode(self, job: Job, path: Path) -> AbstractAsyncContextManager[Decoding]:
        if job.plan.get("may_split", True):
            return self._decoder.decode(job, path, self._max_seconds)
        most = job.plan["part_seconds"]
        refuse = partial(too_long_for_one_call, job.account.model, most)
        return self._decoder.decode(job, path, min(most, self._max_seconds), refuse)


class PartsRun:
    """One run of one job: its parts are heard at once, and kept one after the other."""

    def __init__(self, work: PartsWork, job: Job) -> None:
        self.job = job
        self.progress = Progress(job)
        self._work = work
        self._keeps_gaps = job.options.get("on_gap") == "keep"
        self._one_by_one = asyncio.Lock()

    async def hear(
        self, stretch: PartSpan, pcm: bytes, held: Allocation, sending: CallPermit
    ) -> None:
        """Have one part transcribed and stored, or store that it stays a gap."""
        sound: PartAudio = Pcm(pcm)
        del pcm
        sound = await self._work.asker.as_taken(self.job, sound)
        held.shrink(len(sound.data))
        try:
            await loop_repair.transcribe_part(
                _Part(self, self._work, stretch, sound, sending), sound
            )
        except GatewayError as error:
            if not (self._keeps_gaps and is_of_part(error)):
                raise
            await to_the_end(
                self.commit(stretch, PartOutcome(stretch.index, error_code=error.code), None)
            )

    async def commit(
        self, stretch: PartSpan, became: PartOutcome, answered: Answered | None
    ) -> None:
        """Store what a part has become; with the last one the job ends."""
        progress, work = self.progress, self._work
        async with self._one_by_one:  # what may be told in turn depends on what is stored
            progress.note(stretch, became)
            told = progress.told()
            ending = progress.ending(await self._words()) if progress.is_complete else None
            async with publishing(self.job, told) as placed:
                await retried(
                    work.db, commit_part, self.job, became, answered, placed, ending, now=work.now()
                )
            progress.note_stored(stretch)
            progress.ended = ending is not None

    async def end(self) -> None:
        """End a job of whose last part nobody knew that it was the last."""
        if (error := self.progress.why_nothing) is not None:
            raise error
        told = self.progress.told()
        ending = self.progress.ending(await self._words())
        await to_the_end(self._tell_and_end(told, ending))

    async def _tell_and_end(self, told: ProgressUpdate, ending: Completion) -> None:
        work = self._work
        async with publishing(self.job, told) as placed:
            await retried(work.db, commit_completion, self.job, placed, ending, now=work.now())

    def listen(self, stretch: PartSpan, *, is_sent: bool) -> None:
        """Give a stretch its place in what is told as it comes: call it in their order."""
        before = self.progress.text_told_before(stretch)
        if before is not None:
            self.job.run.live_text.skip_known(before)
        elif is_sent or self.progress.has_text(stretch):
            self.job.run.live_text.part(stretch.index)

    async def _words(self) -> Mapping[str, Any]:
        return await asyncio.to_thread(outcome.merged, self.progress.texts)


class _Part:
    """A part with its sound in the form that its engine takes; see rehear.Part."""

    def __init__(
        self,
        run: PartsRun,
        work: PartsWork,
        stretch: PartSpan,
        sound: PartAudio,
        sending: CallPermit,
    ) -> None:
        self.stretch = stretch
        self.partial_result = run.progress.partial_result_of(stretch)
        self._run = run
        self._work = work
        self._sound = sound
        self._sending = sending

    async def ask(self, stretch: PartSpan, audio: PartAudio) -> Answered:
        unstored = self._run.progress.unstored(self.stretch)
        job = self._run.job
        # What was heard of a half is told with the whole part: another call's text came before.
        sink = job.run.live_text.part(stretch.index) if stretch is self.stretch else None
        return await self._work.asker.ask(
            job, stretch, audio, unstored, sending=self._sending, on_delta=sink
        )

    async def commit(self, became: PartOutcome, answered: Answered | None) -> None:
        await self._run.commit(self.stretch, became, answered)
        self._sending.ended()

    async def pcm(self) -> bytes:
        if isinstance(self._sound, Encoded):
            return await unflac(self._sound.data, self._work.decoders)
        return self._sound.data
