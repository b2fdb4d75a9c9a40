"""Transcribe a recording by sending its very bytes: one part, nothing decoded."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from app.audio.split import Piece
from app.db.engine import Database
from app.errors import Undecodable
from app.jobs import calls, outcome
from app.jobs.ask import Asker
from app.jobs.decode import JobDecoder, sha256
from app.jobs.keep import keep
from app.jobs.progress import Progress, stretch_of
from app.jobs.runs import Job
from app.jobs.surely import surely
from app.kit.clock import Clock
from app.speech.contract import Encoded, PartAudio, Pcm

SLACK_SECONDS = 1.0  # between what a header vouches for and what a decoder makes of it


class WholeWork:
    """What a run does of a job whose plan is to send the recording as it was received."""

    def __init__(self, db: Database, asker: Asker, decoder: JobDecoder, *, clock: Clock) -> None:
        self._db = db
        self._asker = asker
        self._decoder = decoder
        self._now = clock

    async def do(self, job: Job, path: Path) -> Progress:
        """Send the recording, keep what was heard and end the job."""
        progress = Progress()
        whole = Piece(0, 0, job.duration_ms or 0, job.duration_ms or 0, b"")
        data = await asyncio.to_thread(path.read_bytes)
        stretch = stretch_of(whole, await sha256(data))
        audio: PartAudio = Encoded(data, job.plan["form"], stretch.length_ms)
        instead: Callable[[], Awaitable[Pcm]] | None = partial(self._decoded, job, path, progress)
        if await self._was_refused(job):
            audio, instead = await self._decoded(job, path, progress), None
        told = job.run.told.part(0)
        answered = await self._asker.ask(job, stretch, audio, (), instead=instead, on_delta=told)
        progress.add(whole, calls.heard(answered.answer, answered.route.engine))
        words = await asyncio.to_thread(outcome.merged, progress.texts)
        await job.run.told.close(0, answered.answer.text)
        await surely(self._db, keep, job, answered, progress, words, now=self._now())
        return progress

    async def _was_refused(self, job: Job) -> bool:
        """Tell whether an earlier run met an engine that does not take the bytes as they are."""
        return job.run.epoch > 1 and await self._db.read(calls.was_refused, job.id)

    async def _decoded(self, job: Job, path: Path, progress: Progress) -> Pcm:
        """Decode all of a recording whose bytes the engine refused as they are.

        It is held in memory, so it must be no longer than what its header vouched for.
        """
        most = (job.duration_ms or 0) / 1000 + SLACK_SECONDS
        async with self._decoder.decode(
            job, path, most, partial(_longer_than_said, most)
        ) as decoding:
            sound = b"".join([block async for block in decoding.blocks()])
            progress.note_length(job, decoding)
        detail = "The engine did not take the recording as it was received: it was decoded first."
        progress.warnings.append({"code": "sent_decoded", "detail": detail})
        return Pcm(sound)


def _longer_than_said(most_seconds: float) -> Undecodable:
    return Undecodable(
        f"The recording is longer than its header says: more than the {most_seconds:.1f} s that it "
        "says. As it is, the engine refused it."
    )
