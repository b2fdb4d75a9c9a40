"""Decoding what a job's row says of its recording."""

import asyncio
import hashlib
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from app.audio.ffmpeg import Decoders
from app.audio.normalise import Decoding, Refusal, decode
from app.jobs.store.job import Job


class JobDecoder:
    """Decodes recordings as their jobs want it."""

    def __init__(self, decoders: Decoders) -> None:
        self._decoders = decoders

    def decode(
        self, job: Job, path: Path, most: float, refuse: Refusal | None = None
    ) -> AbstractAsyncContextManager[Decoding]:
        """Decode at most `most` seconds; see audio.normalise."""
        raw_rate = job.options.get("raw_rate")
        return decode(
            path, decoders=self._decoders, max_seconds=most, refuse=refuse, raw_rate=raw_rate
        )


async def sha256(data: bytes) -> str:
    """Return the hex digest, computed off the loop."""
    return (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
