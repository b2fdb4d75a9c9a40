"""FLAC of our own PCM, for engines that are far away: lossless, and half of the bytes.

libFLAC encodes through soundfile in this process: a decoder child would need five times the CPU
time. It is given nothing but samples of ours, and reads nothing but FLAC that it wrote.
"""

import asyncio
from io import BytesIO

from app.audio.ffmpeg import Decoders
from app.audio.pcm import SAMPLE_RATE
from app.errors import InternalError


async def encode_flac(pcm: bytes, decoders: Decoders) -> bytes:
    """Return the PCM as FLAC. Raises InternalError where the encoder does not work."""

    def encode() -> bytes:
        import soundfile  # noqa: PLC0415 - 4 MB that an idle process saves

        made = BytesIO()
        try:
            with soundfile.SoundFile(made, "w", SAMPLE_RATE, 1, "PCM_16", format="FLAC") as file:
                file.buffer_write(pcm, "int16")
        except soundfile.SoundFileError as error:
            raise InternalError(log=f"the FLAC encoder failed: {error}") from error
        return made.getvalue()

    async with decoders.slots.holding():
        return await asyncio.to_thread(encode)


async def decode_flac(flac: bytes, decoders: Decoders) -> bytes:
    """Return the PCM that `encode_flac` was given. Raises InternalError where that fails."""

    def decode() -> bytes:
        import soundfile  # noqa: PLC0415

        try:
            with soundfile.SoundFile(BytesIO(flac)) as file:
                return bytes(file.buffer_read(dtype="int16"))
        except soundfile.SoundFileError as error:
            raise InternalError(log=f"the FLAC decoder failed: {error}") from error

    async with decoders.slots.holding():
        return await asyncio.to_thread(decode)
