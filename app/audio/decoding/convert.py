"""Converts a whole audio to one FLAC file, for a provider that does not accept it as received.

The decoder's output goes to the store block by block: memory does not grow with the audio.
"""

import asyncio
from contextlib import aclosing
from pathlib import Path

from app.audio.decoding.decode import CPU_BASE_SECONDS, LOG_LEVEL
from app.audio.ffmpeg import Decoders
from app.audio.inspection.ffmpeg_probe import decoder_refusal, read_head
from app.audio.storage.blob_store import BlobStore, StoredBlob

CPU_SHARE = 1 / 20  # of the audio's length: decoded and encoded again
BLOCK_BYTES = 256 << 10
FORM = "flac"


async def as_flac(
    path: Path,
    store: BlobStore,
    project_id: str,
    *,
    decoders: Decoders,
    sample_rate: int,
    keep_channels: bool,
    max_seconds: float,
    max_bytes: int,
    raw_rate: int | None = None,
) -> StoredBlob:
    """Store the copy, with its channels mixed into one or unchanged. The caller must erase it.

    Raises AudioError, StorageFull, and AudioTooLarge if it would have more than `max_bytes`.
    """
    head = await asyncio.to_thread(read_head, path)
    output = (
        *("-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1", "-map_chapters", "-1"),
        *("-t", f"{max_seconds:.3f}", *(() if keep_channels else ("-ac", "1"))),
        *("-ar", str(sample_rate), "-sample_fmt", "s16"),
        *("-compression_level", "5", "-f", "flac", "pipe:1"),
    )
    cpu_seconds = int(CPU_BASE_SECONDS + max_seconds * CPU_SHARE)
    upload = await store.begin(max_bytes)
    try:
        async with decoders.open(
            path, output, log_level=LOG_LEVEL, cpu_seconds=cpu_seconds, raw_rate=raw_rate
        ) as child:
            written = 0
            async with aclosing(child.blocks(BLOCK_BYTES)) as blocks:
                async for block in blocks:
                    written += len(block)
                    await upload.write(block)
            code, stderr = await child.end()
        if code != 0 and written < BLOCK_BYTES:
            raise decoder_refusal(head, stderr)
        return await upload.finish(project_id)
    finally:
        await upload.discard()
