"""Decodes audio of any format to PCM (16 kHz mono, see `pcm`), block by block.

WAV files of 16 bit PCM whose header is verified, and raw samples, are converted in this process:
they need no parser. Everything else goes to a decoder child. Memory does not grow with the file:
each block is decoded on request. Deadlines count only the time spent waiting for the child, never
the time that the consumer takes.
"""

import asyncio
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Protocol

from app.audio.ffmpeg import Decoders, FfmpegProcess
from app.audio.headers.verify import pcm_layout
from app.audio.headers.wav import PcmLayout
from app.audio.inspection.ffmpeg_probe import decoder_refusal, read_head
from app.audio.pcm import BYTES_PER_SECOND, RATES, SAMPLE_BYTES, SAMPLE_RATE
from app.audio.probe import too_long
from app.errors import AudioError
from app.kit.open_file import open_file
from app.kit.text import printable

BLOCK_SECONDS = 10
BLOCK_BYTES = BLOCK_SECONDS * BYTES_PER_SECOND
READ_BYTES = 1 << 20  # of a WAV that are converted for a block
CONVERT_BYTES = 256 << 10  # converted at a time: less memory for each open audio, as fast
LOG_LEVEL = "repeat+error"  # `repeat`: each line is itself, none is "Last message repeated"
LEAST_SECONDS = 1.0  # of audio from a file with errors, for it to be worth going on
CPU_BASE_SECONDS = 30
CPU_SHARE = 1 / 40  # of the audio's length; the slowest format tried needed 1/240
DAMAGE_CHARACTERS = 200
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")
# Our own whitelist at work on a video track, not a fault of the audio.
_EXPECTED = "not on whitelist"

Refusal = Callable[[], AudioError]


class Decoding(Protocol):
    """Audio that is being decoded. `seconds` and `damage` are final once the blocks have ended."""

    seconds: float
    damage: str | None

    def requeue(self) -> None:
        """Let the decodings that wait for a slot go first: enough was decoded for now."""

    def blocks(self) -> AsyncGenerator[bytes, None]:
        """Yield the PCM. Raises AudioTooLong, Undecodable, NoAudioStream or DecodeTimeout."""


@asynccontextmanager
async def open_decoding(
    path: Path,
    *,
    decoders: Decoders,
    max_seconds: float,
    refuse: Refusal | None = None,
    raw_rate: int | None = None,
) -> AsyncIterator[Decoding]:
    """Open audio for decoding. Its child has ended when the context ends.

    `refuse` makes the error for audio of more than `max_seconds`, if the gateway's own limit would
    be the wrong one to name. With `raw_rate` the file holds raw samples of that rate, see `raw`.
    Raises EmptyAudio.
    """
    head = await asyncio.to_thread(read_head, path)
    limit = _Limit(max_seconds, refuse)
    layout = await asyncio.to_thread(pcm_layout, path, raw_rate)
    if layout is not None and layout.rate in RATES:
        async with open_file(path) as file:
            yield PcmDecoding(file, layout, decoders, limit)
        return
    cpu_seconds = int(CPU_BASE_SECONDS + max_seconds * CPU_SHARE)
    # One second more than allowed is asked for: ffmpeg also exits with 0 when it stops at -t.
    output = (
        *("-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1", "-map_chapters", "-1"),
        *("-t", f"{max_seconds + 1:.3f}", "-ac", "1", "-ar", str(SAMPLE_RATE)),
        *("-f", "s16le", "pipe:1"),
    )
    async with decoders.open(
        path, output, log_level=LOG_LEVEL, cpu_seconds=cpu_seconds, raw_rate=raw_rate
    ) as child:
        yield ChildDecoding(child, decoders, head, limit)


@dataclass(frozen=True, slots=True)
class _Limit:
    max_seconds: float
    refuse: Refusal | None

    def check(self, seconds: float) -> None:
        if seconds > self.max_seconds:
            raise self.refuse() if self.refuse else too_long(seconds, self.max_seconds)


class ChildDecoding:
    def __init__(
        self, child: FfmpegProcess, decoders: Decoders, head: bytes, limit: _Limit
    ) -> None:
        self.seconds = 0.0
        self.damage: str | None = None
        self._child = child
        self._decoders = decoders
        self._head = head
        self._limit = limit

    def requeue(self) -> None:
        self._child.turn = self._decoders.next_turn()

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        total_bytes = 0
        async with aclosing(self._child.blocks(BLOCK_BYTES)) as blocks:
            async for block in blocks:
                total_bytes += len(block) // SAMPLE_BYTES * SAMPLE_BYTES
                self.seconds = total_bytes / BYTES_PER_SECOND
                self._limit.check(self.seconds)
                yield block[: len(block) // SAMPLE_BYTES * SAMPLE_BYTES]
        code, stderr = await self._child.end()
        if not self.seconds or (code != 0 and self.seconds < LEAST_SECONDS):
            raise decoder_refusal(self._head, stderr)
        self.damage = damage_in(code, stderr)


class PcmDecoding:
    def __init__(self, file: FileIO, layout: PcmLayout, decoders: Decoders, limit: _Limit) -> None:
        self.seconds = 0.0
        self.damage: str | None = None
        self._file = file
        self._layout = layout
        self._decoders = decoders
        self._turn = decoders.next_turn()
        self._limit = limit
        from app.audio.decoding.resample import Resampler  # noqa: PLC0415 - with numpy, 17 MB

        self._resampler = Resampler(layout.rate, layout.channels, CONVERT_BYTES)

    def requeue(self) -> None:
        self._turn = self._decoders.next_turn()

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        layout = self._layout
        frame_bytes = layout.channels * SAMPLE_BYTES
        self._limit.check(layout.size / frame_bytes / layout.rate)
        step = READ_BYTES // frame_bytes * frame_bytes
        end = layout.start + layout.size
        total_bytes = 0
        for start in range(layout.start, end, step):
            size = min(step, end - start)
            async with self._decoders.slots.holding(self._turn):
                converting = asyncio.ensure_future(
                    asyncio.to_thread(self._convert, start, size, is_last=start + size == end)
                )
                try:
                    block = await asyncio.shield(converting)
                except asyncio.CancelledError:
                    # The file must not be closed before it was read: its number may be used again.
                    await asyncio.wait([converting])
                    raise
            total_bytes += len(block)
            self.seconds = total_bytes / BYTES_PER_SECOND
            yield block

    def _convert(self, start: int, size: int, *, is_last: bool) -> bytes:
        number, end = self._file.fileno(), start + size
        converted = [
            self._resampler.convert(os.pread(number, min(CONVERT_BYTES, end - at), at))
            for at in range(start, end, CONVERT_BYTES)
        ]
        if is_last:
            converted.append(self._resampler.end())
        return b"".join(converted)


def damage_in(code: int, stderr: str) -> str | None:
    """Return the decoder's first error in printable characters; None where there is none."""
    lines = [line.strip() for line in stderr.split("\n")]
    real = [line for line in lines if line and _EXPECTED not in line]
    if not real:
        return f"The decoder ended with code {code}." if code else None
    return printable(_ADDRESS.sub("", real[0])[:DAMAGE_CHARACTERS])
