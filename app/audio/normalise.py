"""Any recording as one form: 16 kHz mono PCM (signed 16 bit little endian), block by block.

Memory does not grow with the file: the child waits on its pipe until the next block is wanted.
Deadlines count only the time we wait for the child, never the time the consumer takes.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from app.audio.ffmpeg import CPU_LIMIT_EXIT, Decoders, FfmpegProcess
from app.audio.probe import read_head, refusal, too_long
from app.errors import AudioError, DecodeTimeout

SAMPLE_RATE = 16_000
BYTES_PER_MS = SAMPLE_RATE * 2 // 1000
BYTES_PER_SECOND = BYTES_PER_MS * 1000
BLOCK_SECONDS = 10
BLOCK_BYTES = BLOCK_SECONDS * BYTES_PER_SECOND
SILENT_CHILD_SECONDS = 60.0  # longest wait for one block; a healthy child needs some 40 ms
LOG_LEVEL = "repeat+error"  # `repeat`: each line is itself, none is "Last message repeated"
LEAST_SECONDS = 1.0  # of sound from a file with errors, for it to be worth going on
CPU_BASE_SECONDS = 30
CPU_SHARE = 1 / 40  # of the recording's length; the slowest format tried needed 1/240
DAMAGE_CHARACTERS = 200
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")
# Our own whitelist at work on a video track, not a fault of the sound.
_EXPECTED = "not on whitelist"


Refusal = Callable[[], AudioError]


class Decoding:
    """A recording being decoded. `seconds` and `damage` are final once the blocks have ended."""

    def __init__(
        self,
        child: FfmpegProcess,
        head: bytes,
        decoders: Decoders,
        max_seconds: float,
        refuse: Refusal | None,
    ) -> None:
        self.seconds = 0.0
        self.damage: str | None = None
        self._child = child
        self._head = head
        self._slots = decoders.slots
        self._max_seconds = max_seconds
        self._refuse = refuse

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Yield the sound. Raises AudioTooLong, Undecodable, NoAudioStream or DecodeTimeout."""
        total_bytes = 0
        while block := await self._next():
            total_bytes += len(block)
            self.seconds = total_bytes / BYTES_PER_SECOND
            if self.seconds > self._max_seconds:
                raise self._refuse() if self._refuse else too_long(self.seconds, self._max_seconds)
            yield block
        await self._judge()

    async def _next(self) -> bytes:
        try:
            async with self._slots, asyncio.timeout(SILENT_CHILD_SECONDS):
                return await self._child.stdout.readexactly(BLOCK_BYTES)
        except asyncio.IncompleteReadError as end:
            return end.partial[: len(end.partial) // 2 * 2]
        except TimeoutError:
            raise DecodeTimeout(log=f"no block for {SILENT_CHILD_SECONDS} s") from None

    async def _judge(self) -> None:
        """Tell a whole recording from a damaged one and from none at all."""
        try:
            async with asyncio.timeout(SILENT_CHILD_SECONDS):
                code, complaints = await self._child.finish()
        except TimeoutError:
            raise DecodeTimeout(log="the child did not end") from None
        if code == CPU_LIMIT_EXIT:
            raise DecodeTimeout(log=f"the child used up its CPU time, code {code}")
        if not self.seconds or (code != 0 and self.seconds < LEAST_SECONDS):
            raise refusal(self._head, complaints)
        self.damage = damage_in(code, complaints)


@asynccontextmanager
async def decode(
    path: Path,
    *,
    decoders: Decoders,
    max_seconds: float,
    refuse: Refusal | None = None,
    raw_rate: int | None = None,
) -> AsyncIterator[Decoding]:
    """Open a recording for decoding; its child is gone when the context ends, however it ends.

    `refuse` makes the error for a recording of more than `max_seconds`, where the gateway's own
    words would be wrong. With `raw_rate` it is bare samples of that rate, see `raw`.
    """
    head = await asyncio.to_thread(read_head, path)
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
        yield Decoding(child, head, decoders, max_seconds, refuse)


def damage_in(code: int, complaints: str) -> str | None:
    """Return the decoder's first complaint in printable words, or None where all went well."""
    lines = [line.strip() for line in complaints.split("\n")]
    real = [line for line in lines if line and _EXPECTED not in line]
    if not real:
        return f"The decoder ended with code {code}." if code else None
    words = _ADDRESS.sub("", real[0])[:DAMAGE_CHARACTERS]
    return "".join(character if character.isprintable() else "?" for character in words)
