"""What a recording is, measured by the twin itself: a WAV from its header, the rest by decoding."""

import asyncio
import os
import struct
import tempfile
from dataclasses import dataclass
from typing import NamedTuple

import imageio_ffmpeg

from tests.twin.refusals import invalid

RATE = 16_000
BYTES_PER_SECOND = RATE * 2
MOST_DECODED_SECONDS = 400  # longer than anything that is accepted
PCM = 1
EXTENSIBLE = 0xFFFE


@dataclass(frozen=True)
class Audio:
    """A recording as it came, and its length."""

    data: bytes
    seconds: float
    pcm: bytes | None = None

    async def samples(self) -> bytes:
        """Return it as 16 kHz mono PCM."""
        return self.pcm if self.pcm is not None else await decoded(self.data)


class Wave(NamedTuple):
    """A WAV of plain PCM: its form, and the place of its samples."""

    channels: int
    rate: int
    bits: int
    start: int
    end: int

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / (self.channels * self.rate * self.bits // 8)


async def measured(data: bytes, *, raw_rate: int | None = None) -> Audio:
    """Return the recording with its length; `raw_rate` says that it is bare PCM."""
    if not data:
        raise invalid("The audio is empty")
    if raw_rate:
        return Audio(data, len(data) / 2 / raw_rate)
    if wave := wave_in(data):
        plain = (wave.channels, wave.rate, wave.bits) == (1, RATE, 16)
        return Audio(data, wave.seconds, data[wave.start : wave.end] if plain else None)
    pcm = await decoded(data)
    return Audio(data, len(pcm) / BYTES_PER_SECOND, pcm)


def wave_in(data: bytes) -> Wave | None:
    """Return what the header says, bounded by what is there; None if it is no WAV of PCM."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    at, form = 12, None
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        at += 8
        if name == b"fmt " and at + 16 <= len(data):
            form = struct.unpack_from("<HHIIHH", data, at)
        if name == b"data":
            return _wave(form, at, min(at + size, len(data)))
        at += size + size % 2
    return None


def _wave(form: tuple[int, ...] | None, start: int, end: int) -> Wave | None:
    if form is None or form[0] not in {PCM, EXTENSIBLE} or not form[1] * form[2] * form[5] // 8:
        return None
    return Wave(form[1], form[2], form[5], start, end)


async def decoded(data: bytes) -> bytes:
    """Decode anything to 16 kHz mono PCM; from a file, for MP4 has its index at the end."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", f"/dev/fd/{file.fileno()}"]
        command += ["-vn", "-ac", "1", "-ar", str(RATE), "-t", str(MOST_DECODED_SECONDS)]
        child = await asyncio.create_subprocess_exec(
            *command,
            *("-f", "s16le", "pipe:1"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            pass_fds=(file.fileno(),),
            env={**os.environ, "AV_LOG_FORCE_NOCOLOR": "1"},
        )
        pcm, _ = await child.communicate()
    if not pcm:
        raise invalid("The audio format is illegal and cannot be opened.")
    return pcm
