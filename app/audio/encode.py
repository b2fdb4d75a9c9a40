"""Sound as FLAC, for engines that are far away: lossless, and half of the bytes of PCM.

The sound is our own PCM, so this child needs none of the guards of a stranger's file.
"""

import asyncio
from collections.abc import Sequence

from app.audio.ffmpeg import Decoders
from app.audio.normalise import SAMPLE_RATE
from app.errors import InternalError

ENCODE_SECONDS = 60.0  # a part of 240 s needs about 0.3 s
_ENCODING = (
    *("-hide_banner", "-nostats", "-v", "error", "-threads", "1"),
    *("-f", "s16le", "-ar", str(SAMPLE_RATE), "-ac", "1", "-i", "pipe:0"),
    *("-f", "flac", "-compression_level", "5", "pipe:1"),
)


_DECODING = (
    *("-hide_banner", "-nostats", "-v", "error", "-threads", "1"),
    *("-f", "flac", "-i", "pipe:0"),
    *("-f", "s16le", "-ar", str(SAMPLE_RATE), "-ac", "1", "pipe:1"),
)


async def flac(pcm: bytes, decoders: Decoders) -> bytes:
    """Return the sound as FLAC. Raises InternalError where the encoder does not work."""
    return await _through(_ENCODING, pcm, decoders)


async def unflac(encoded: bytes, decoders: Decoders) -> bytes:
    """Return the PCM that `flac` was given. Raises InternalError where that does not work."""
    return await _through(_DECODING, encoded, decoders)


async def _through(arguments: Sequence[str], sound: bytes, decoders: Decoders) -> bytes:
    try:
        async with decoders.slots, asyncio.timeout(ENCODE_SECONDS):
            code, made = await decoders.through(arguments, sound)
    except TimeoutError:
        raise InternalError(log=f"no FLAC after {ENCODE_SECONDS} s") from None
    if code != 0 or not made:
        raise InternalError(log=f"the encoder ended with code {code}")
    return made
