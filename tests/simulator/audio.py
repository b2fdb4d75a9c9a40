"""Measures audio with code of the simulator: WAV by its header, other formats by decoding."""

import asyncio
import os
import re
import struct
import tempfile
from dataclasses import dataclass
from typing import NamedTuple

import imageio_ffmpeg

from tests.simulator.errors import invalid

RATE = 16_000
BYTES_PER_SECOND = RATE * 2
MOST_DECODED_SECONDS = 400  # longer than anything that is accepted in a call one waits for
PCM = 1
EXTENSIBLE = 0xFFFE
_CONTAINER = re.compile(r"Input #0, ([\w,]+), from")
_STREAM = re.compile(r"Audio: (\w+)[^\n]*?, (\d+) Hz, ([^,\n]+)")
_LAYOUTS = {"mono": 1, "stereo": 2, "quad": 4, "5.0": 5, "5.1": 6, "5.1(side)": 6, "7.1": 8}


@dataclass(frozen=True)
class Form:
    """The format of a recording."""

    container: str = "pcm"
    codec: str = "pcm_s16le"
    rate: int = RATE
    channels: int = 1


@dataclass(frozen=True)
class Audio:
    """A recording as received, and its length."""

    data: bytes
    seconds: float
    pcm: bytes | None = None
    form: Form = Form()
    most_seconds: float = MOST_DECODED_SECONDS

    async def samples(self) -> bytes:
        """Return the recording as 16 kHz mono PCM."""
        if self.pcm is not None:
            return self.pcm
        return await decoded(self.data, most_seconds=self.most_seconds)

    async def channel(self, number: int) -> "Audio":
        """Return one channel as a recording."""
        if self.form.channels == 1:
            return self
        pcm, _ = await _decoded(self.data, self.most_seconds, number)
        return Audio(self.data, self.seconds, pcm, self.form)


class Wave(NamedTuple):
    """A WAV of PCM: its format, and the position of its samples."""

    channels: int
    rate: int
    bits: int
    start: int
    end: int

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / (self.channels * self.rate * self.bits // 8)

    @property
    def form(self) -> Form:
        codec = "pcm_u8" if self.bits == 8 else f"pcm_s{self.bits}le"
        return Form("wav", codec, self.rate, self.channels)


async def measured(
    data: bytes, *, raw_rate: int | None = None, most_seconds: float = MOST_DECODED_SECONDS
) -> Audio:
    """Return the recording with its length. With `raw_rate` it is raw PCM of that sample rate."""
    if not data:
        raise invalid("The audio is empty", file_code="FILE_CHECK_FAILED")
    if raw_rate:
        return Audio(data, len(data) / 2 / raw_rate, form=Form(rate=raw_rate))
    if wave := wave_in(data):
        plain = (wave.channels, wave.rate, wave.bits) == (1, RATE, 16)
        pcm = data[wave.start : wave.end] if plain else None
        return Audio(data, wave.seconds, pcm, wave.form, most_seconds)
    pcm, form = await _decoded(data, most_seconds)
    return Audio(data, len(pcm) / BYTES_PER_SECOND, pcm, form, most_seconds)


def wave_in(data: bytes) -> Wave | None:
    """Return the WAV by its header, limited to the bytes present; None if it is no WAV of PCM."""
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


async def decoded(data: bytes, *, most_seconds: float = MOST_DECODED_SECONDS) -> bytes:
    """Decode any format to 16 kHz mono PCM; from a file, because MP4 has its index at the end."""
    pcm, _ = await _decoded(data, most_seconds)
    return pcm


async def _decoded(
    data: bytes, most_seconds: float, channel: int | None = None
) -> tuple[bytes, Form]:
    """Decode all channels into one, or one channel. Return the PCM and the format."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostats", "-i", f"/dev/fd/{file.fileno()}"]
        mix = ["-ac", "1"] if channel is None else ["-af", f"pan=mono|c0=c{channel}"]
        command += ["-vn", *mix, "-ar", str(RATE), "-t", str(most_seconds)]
        child = await asyncio.create_subprocess_exec(
            *command,
            *("-f", "s16le", "pipe:1"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(file.fileno(),),
            env={**os.environ, "AV_LOG_FORCE_NOCOLOR": "1"},
        )
        pcm, said = await child.communicate()
    told = said.decode(errors="replace")
    if not pcm:
        raise invalid(
            "The audio format is illegal and cannot be opened.",
            file_code="NO_INPUT_AUDIO_ERROR" if _CONTAINER.search(told) else "DECODE_ERROR",
        )
    return pcm, _form(told)


def _form(told: str) -> Form:
    """Read ffmpeg's description of its input."""
    container, stream = _CONTAINER.search(told), _STREAM.search(told)
    if not container or not stream:
        return Form()
    codec, rate, layout = stream.groups()
    count = re.match(r"(\d+) channels", layout)
    channels = int(count[1]) if count else _LAYOUTS.get(layout.strip(), 1)
    return Form(container[1], codec, int(rate), channels)
