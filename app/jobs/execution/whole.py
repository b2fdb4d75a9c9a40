"""Transcribe a recording by sending its very bytes: one part, nothing decoded."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from app.db.database import Database
from app.errors import Undecodable
from app.jobs.execution import loop_repair
from app.jobs.execution.commit_part import PartOutcome, commit_part, publishing
from app.jobs.execution.decode import JobDecoder, sha256
from app.jobs.execution.progress import Progress
from app.jobs.store import calls, outcome
from app.jobs.store.calls import Answered
from app.jobs.store.durable_write import retried
from app.jobs.store.job import Job
from app.jobs.store.live_text import TextSink
from app.jobs.store.parts import PartSpan
from app.jobs.upstream.caller import UpstreamCaller
from app.kit.clock import Clock
from app.speech.engine import Encoded, PartAudio, Pcm

SLACK_SECONDS = 1.0  # between what a header vouches for and what a decoder makes of it


class WholeWork:
    """What a run does of a job whose plan is to send the recording as it was received."""

    def __init__(
        self, db: Database, asker: UpstreamCaller, decoder: JobDecoder, *, clock: Clock
    ) -> None:
        self._db = db
        self._asker = asker
        self._decoder = decoder
        self._now = clock

    async def do(self, job: Job, path: Path) -> Progress:
        """Send the recording, keep what was heard and end the job."""
        progress = Progress(job)
        length_ms = job.duration_ms or 0
        data = await asyncio.to_thread(path.read_bytes)
        stretch = PartSpan(0, 0, length_ms, length_ms, await sha256(data))
        progress.cut(stretch)
        progress.is_cut = True
        audio: PartAudio = Encoded(data, job.plan["form"], length_ms)
        instead: Callable[[], Awaitable[Pcm]] | None = partial(self._instead, job, path, progress)
        if await self._was_refused(job):
            audio, instead = await self._instead(job, path, progress), None
        part = _Whole(self, job, path, progress, stretch, instead)
        await loop_repair.transcribe_part(part, audio)
        return progress

    async def ask(
        self,
        job: Job,
        stretch: PartSpan,
        audio: PartAudio,
        instead: Callable[[], Awaitable[Pcm]] | None,
        on_delta: TextSink | None,
    ) -> Answered:
        """Make a call for the recording, or for a half of it."""
        return await self._asker.ask(job, stretch, audio, (), instead=instead, on_delta=on_delta)

    async def commit(
        self, job: Job, progress: Progress, became: PartOutcome, answered: Answered | None
    ) -> None:
        """Store what was heard; where it is the last of it, the job ends."""
        progress.note(progress.only, became)
        told, ending = progress.told(), None
        if progress.is_complete:
            words = await asyncio.to_thread(outcome.merged, progress.texts)
            ending = progress.ending(words)
        async with publishing(job, told) as placed:
            await retried(
                self._db, commit_part, job, became, answered, placed, ending, now=self._now()
            )

    async def _was_refused(self, job: Job) -> bool:
        """Tell whether an earlier run met an engine that does not take the bytes as they are."""
        return job.run.epoch > 1 and await self._db.read(calls.was_rejected, job.id)

    async def _instead(self, job: Job, path: Path, progress: Progress) -> Pcm:
        """Return the sound of a recording whose bytes the engine refused as they are."""
        sound = await self.decoded(job, path, progress)
        detail = "The engine did not take the recording as it was received: it was decoded first."
        progress.warn("audio_decoded", detail)
        return Pcm(sound)

    async def decoded(self, job: Job, path: Path, progress: Progress) -> bytes:
        """Decode all of a recording.

        It is held in memory, so it must be no longer than what its header vouched for.
        """
        most = (job.duration_ms or 0) / 1000 + SLACK_SECONDS
        async with self._decoder.decode(
            job, path, most, partial(_longer_than_said, most)
        ) as decoding:
            sound = b"".join([block async for block in decoding.blocks()])
            progress.note_length(decoding)
        return sound


class _Whole:
    """The recording as its only part; see rehear.Part."""

    def __init__(
        self,
        work: WholeWork,
        job: Job,
        path: Path,
        progress: Progress,
        stretch: PartSpan,
        instead: Callable[[], Awaitable[Pcm]] | None,
    ) -> None:
        self.stretch = stretch
        self.partial_result = progress.partial_result_of(stretch)
        self._work = work
        self._job = job
        self._path = path
        self._progress = progress
        self._instead = instead

    async def ask(self, stretch: PartSpan, audio: PartAudio) -> Answered:
        if stretch is not self.stretch:  # what is heard of a half is told with the whole
            return await self._work.ask(self._job, stretch, audio, None, None)
        sink = self._job.run.live_text.part(0)
        return await self._work.ask(self._job, stretch, audio, self._instead, sink)

    async def commit(self, became: PartOutcome, answered: Answered | None) -> None:
        await self._work.commit(self._job, self._progress, became, answered)

    async def pcm(self) -> bytes:
        return await self._work.decoded(self._job, self._path, self._progress)


def _longer_than_said(most_seconds: float) -> Undecodable:
    return Undecodable(
        f"The recording is longer than its header says: more than the {most_seconds:.1f} s that it "
        "says. As it is, the engine refused it."
    )
