"""The source of a job that is sent as it was received: one part, nothing is decoded."""

import asyncio

from app.audio.decoding.decode import open_decoding
from app.audio.ffmpeg import Decoders
from app.audio.storage.blob_store import BlobStore
from app.db.database import Database
from app.errors import Undecodable
from app.jobs.execution.job_run import JobRun, PartRun
from app.jobs.execution.loop_repair import transcribe_part
from app.jobs.store import calls
from app.jobs.store.parts import PartSpan
from app.jobs.upstream.call_permit import CallPermit
from app.speech.engine import EncodedAudio, PartAudio, Pcm
from app.speech.warning_codes import WarningCode

SLACK_SECONDS = 1.0  # by which a decoder's length may exceed the length in a verified header


async def transcribe_as_received(
    run: JobRun, received: bytes | None, *, db: Database, store: BlobStore, decoders: Decoders
) -> None:
    """Transcribe the audio in one part, from its bytes in memory or from the store."""
    job = run.job
    length_ms = job.duration_ms or 0
    span = PartSpan(0, 0, length_ms, length_ms, job.audio_sha256)
    run.progress.add_part(span)
    run.progress.is_cut = True
    source = _ReceivedAudio(run, store, decoders)
    part = PartRun(
        run,
        span,
        Pcm(b""),
        source.decode,
        decoders.detectors,
        CallPermit(),
        source.decode_rejected,
    )
    # An earlier run may have met an engine that rejects the format.
    if job.run.epoch > 1 and await db.read(calls.was_rejected, job.id):
        part.audio, part.fallback = await source.decode_rejected(), None
    else:
        part.audio = await source.encoded(received)
    await transcribe_part(part)


class _ReceivedAudio:
    """The audio of a job in the forms in which it may be sent."""

    def __init__(self, run: JobRun, store: BlobStore, decoders: Decoders) -> None:
        self._run = run
        self._store = store
        self._decoders = decoders

    async def encoded(self, received: bytes | None) -> PartAudio:
        """Return the audio as it was received."""
        job = self._run.job
        if received is None:
            async with self._store.local_copy(job.blob_key) as path:
                received = await asyncio.to_thread(path.read_bytes)
        return EncodedAudio(received, job.plan.audio_format, job.duration_ms or 0)

    async def decode_rejected(self) -> Pcm:
        """Return the audio decoded, after an engine rejected the format, and add a warning."""
        pcm = await self.decode()
        detail = "The engine rejected the file as it was received. It was decoded and sent again."
        self._run.progress.warn(WarningCode.AUDIO_DECODED, detail)
        return Pcm(pcm)

    async def decode(self) -> bytes:
        """Decode all of the audio into memory. Raises Undecodable beyond its verified length."""
        job = self._run.job
        longest = (job.duration_ms or 0) / 1000 + SLACK_SECONDS

        def refuse() -> Undecodable:
            return Undecodable(
                "The recording is longer than its header says: more than the "
                f"{longest:.1f} s that it says. As it is, the engine refused it."
            )

        async with (
            self._store.local_copy(job.blob_key) as path,
            open_decoding(
                path,
                decoders=self._decoders,
                max_seconds=longest,
                refuse=refuse,
                raw_rate=job.options.raw_rate,
            ) as decoding,
        ):
            pcm = b"".join([block async for block in decoding.blocks()])
            self._run.progress.note_length(decoding)
        return pcm
