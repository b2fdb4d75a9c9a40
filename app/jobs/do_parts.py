"""Transcribe a recording in the parts that it is cut into while it is decoded."""

import asyncio
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial
from pathlib import Path

from app.audio.normalise import Decoding
from app.audio.split import Piece, pieces
from app.db.engine import Database
from app.jobs import calls, outcome
from app.jobs.ask import Asker
from app.jobs.decode import JobDecoder, sha256
from app.jobs.keep import end, keep
from app.jobs.progress import Progress, speaking, stretch_of
from app.jobs.runs import Job
from app.jobs.surely import surely
from app.kit.clock import Clock
from app.speech.contract import Pcm
from app.speech.plan import too_long_for_one_call


class PartsWork:
    """What a run does of a job whose recording is decoded here."""

    def __init__(
        self,
        db: Database,
        asker: Asker,
        decoder: JobDecoder,
        *,
        max_seconds: float,
        clock: Clock,
    ) -> None:
        self._db = db
        self._asker = asker
        self._decoder = decoder
        self._max_seconds = max_seconds
        self._now = clock

    async def do(self, job: Job, path: Path) -> Progress:
        """Transcribe what is decoded, in parts as the plan says, and end the job."""
        progress = Progress()
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
            await surely(self._db, end, job, progress, words, now=self._now())
        return progress

    def _decode_parts(self, job: Job, path: Path) -> AbstractAsyncContextManager[Decoding]:
        if job.plan.get("may_split", True):
            return self._decoder.decode(job, path, self._max_seconds)
        most = job.plan["part_seconds"]
        refuse = partial(too_long_for_one_call, job.account.model, most)
        return self._decoder.decode(job, path, min(most, self._max_seconds), refuse)

    async def _do_part(
        self, job: Job, piece: Piece, progress: Progress, finished: Decoding | None
    ) -> None:
        """Transcribe one part, unless an earlier run did; `finished` comes with the last one."""
        stored = next((row for row in job.parts if row.index == piece.index), None)
        if stored is not None and stored.result is not None:
            progress.add(piece, stored.result)
            job.run.told.known(stored.result["text"])
            return
        stretch = stretch_of(piece, await sha256(piece.pcm))
        answered = await self._asker.ask(
            job,
            stretch,
            Pcm(piece.pcm),
            progress.silent,
            on_delta=job.run.told.part(piece.index),
        )
        progress.add(piece, calls.heard(answered.answer, answered.route.engine))
        words = None
        if finished is not None:
            progress.note_length(job, finished)
            words = await asyncio.to_thread(outcome.merged, progress.texts)
        await job.run.told.close(piece.index, answered.answer.text)
        await surely(self._db, keep, job, answered, progress, words, now=self._now())
        job.run.told.pass_on()
        progress.silent.clear()
        progress.ended = finished is not None
