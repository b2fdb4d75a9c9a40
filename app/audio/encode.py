"""Sound as FLAC, for engines that are far away: lossless, and half of the bytes of PCM.

The sound is our own PCM, so this child needs none of the guards of a stranger's file.
"""

import asyncio

from app.audio.children import Decoders
from app.audio.normalise import SAMPLE_RATE
from app.errors import InternalError

ENCODE_SECONDS = 60.0  # a part of 240 s needs about 0.3 s
_ARGUMENTS = (
    *("-hide_banner", "-nostats", "-v", "error", "-threads", "1"),
    *("-f", "s16le", "-ar", str(SAMPLE_RATE), "-ac", "1", "-i", "pipe:0"),
    *("-f", "flac", "-compression_level", "5", "pipe:1"),
)


async def flac(pcm: bytes, decoders: Decoders) -> bytes:
    """Return the sound as FLAC. Raises InternalError where the encoder does not work."""
    try:
        async with decoders.slots, asyncio.timeout(ENCODE_SECONDS):
            code, encoded = await decoders.through(_ARGUMENTS, pcm)
    except TimeoutError:
        raise InternalError(log=f"no FLAC after {ENCODE_SECONDS} s") from None
    if code != 0 or not encoded:
        raise InternalError(log=f"the encoder ended with code {code}")
    return encoded
