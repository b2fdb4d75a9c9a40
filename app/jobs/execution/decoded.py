"""The source of a job whose audio is decoded here and cut into parts at pauses.

Parts are sent while later audio is still being decoded.
"""

import asyncio
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial
from pathlib import Path

from app.audio.decoding.decode import Decoding, open_decoding
from app.audio.decoding.flac import decode_flac
from app.audio.ffmpeg import Decoders
from app.audio.pcm import BYTES_PER_MS, sha256_hex
from app.jobs.execution.audio_budget import Allocation, AudioBudget, RunShare
from app.jobs.execution.job_run import JobRun, PartRun
from app.jobs.execution.loop_repair import transcribe_part
from app.jobs.execution.part_pool import PartPool
from app.jobs.store.job import Job
from app.jobs.store.parts import PartSpan
from app.jobs.upstream.call_permit import CallPermit
from app.settings import JobSettings
from app.speech.engine import EncodedAudio, PartAudio, Pcm
from app.speech.planning.plan import too_long_for_one_call


class DecodedSource:
    """Decodes and cuts the audio of jobs; one bound on audio in memory holds for all of them."""

    def __init__(self, decoders: Decoders, *, max_seconds: float, settings: JobSettings) -> None:
        self._decoders = decoders
        self._max_seconds = max_seconds
        self._concurrency = settings.max_concurrent_parts
        self._budget = AudioBudget(settings.audio_buffer_bytes)

    async def transcribe(self, run: JobRun, path: Path) -> None:
        """Transcribe the audio in parts, as the job's plan says.

        Raises the first error of a part, by severity; see `PartPool.work`.
        """
        engine = run.caller.first_engine(run.job)
        pool = PartPool(min(self._concurrency, engine.max_concurrent_calls))
        await pool.work(self._cut(run, path, pool))

    async def _cut(self, run: JobRun, path: Path, pool: PartPool) -> None:
        """Cut the decoded audio; each part that holds speech is sent as soon as it is cut."""
        job, progress, share = run.job, run.progress, RunShare(self._budget)
        from app.audio.splitting.split import pieces  # noqa: PLC0415 - with numpy, 17 MB

        limit_ms = job.plan.part_seconds * 1000
        window = min(limit_ms, job.duration_ms or limit_ms) * BYTES_PER_MS
        async with share.window(window), self._decode(job, path) as decoding:
            cut = pieces(
                decoding.blocks(),
                detectors=self._decoders.detectors,
                limit_seconds=job.plan.part_seconds,
                cut=job.plan.kind == "split",
                min_speech_ms=job.plan.min_speech_ms,
                known=[(row.start_ms, row.end_ms) for row in job.parts],
            )
            async with aclosing(cut):
                async for piece in cut:
                    decoding.requeue()
                    pcm = piece.pcm
                    digest = await asyncio.to_thread(sha256_hex, pcm) if pcm else None
                    span = PartSpan(
                        piece.index, piece.start_ms, piece.end_ms, piece.speech_ms, digest
                    )
                    del piece
                    is_sent = progress.add_part(span)
                    published = progress.text_published_before(span)
                    if published is not None:
                        job.run.live_text.skip_known(published)
                    elif is_sent or progress.has_text(span):
                        job.run.live_text.part(span.index)  # its place in the order of the text
                    if is_sent:
                        allocation = await share.take(len(pcm))
                        send = partial(self._send, run, span, pcm, allocation)
                        await pool.begin(send, allocation.release)
                        del send  # it holds the audio as well
                    del pcm
            progress.note_length(decoding)
            progress.is_cut = True

    async def _send(
        self, run: JobRun, span: PartSpan, pcm: bytes, allocation: Allocation, permit: CallPermit
    ) -> None:
        audio: PartAudio = Pcm(pcm)
        del pcm
        audio = await run.caller.in_engine_format(run.job, audio)
        allocation.shrink(len(audio.data))

        async def decode_part() -> bytes:
            if isinstance(audio, EncodedAudio):
                return await decode_flac(audio.data, self._decoders)
            return audio.data

        detectors = self._decoders.detectors
        await transcribe_part(PartRun(run, span, audio, decode_part, detectors, permit))

    def _decode(self, job: Job, path: Path) -> AbstractAsyncContextManager[Decoding]:
        longest, refuse = self._max_seconds, None
        if not job.plan.may_split:
            limit = job.plan.part_seconds
            longest = min(limit, longest)
            refuse = partial(too_long_for_one_call, job.account.model, limit)
        return open_decoding(
            path,
            decoders=self._decoders,
            max_seconds=longest,
            refuse=refuse,
            raw_rate=job.options.raw_rate,
        )
