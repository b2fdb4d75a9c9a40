"""FLAC of a part: the same samples after decoding, and a limited size for every input.

Covers: app.audio.decoding.decode, app.audio.decoding.flac
"""

import asyncio
import random
import wave
from pathlib import Path

import pytest

from app.audio.decoding.decode import open_decoding
from app.audio.decoding.flac import decode_flac, encode_flac
from app.audio.ffmpeg import Decoders
from app.errors import InternalError
from app.settings import AudioSettings
from tests.support.gateway import SPEECH

pytestmark = pytest.mark.anyio
MOST_ENCODED_BYTES = 10 << 20


@pytest.fixture
def decoders() -> Decoders:
    return Decoders(AudioSettings())


def spoken() -> bytes:
    with wave.open(str(SPEECH)) as file:
        return file.readframes(file.getnframes())


async def test_decoded_samples_equal_the_encoded_ones(decoders: Decoders, tmp_path: Path) -> None:
    pcm = spoken()
    encoded = await encode_flac(pcm, decoders)
    assert encoded[:4] == b"fLaC"
    assert len(encoded) < len(pcm) * 0.7
    assert await decode_flac(encoded, decoders) == pcm
    path = tmp_path / "part.flac"
    path.write_bytes(encoded)
    async with open_decoding(path, decoders=decoders, max_seconds=60) as decoding:
        assert b"".join([block async for block in decoding.blocks()]) == pcm
    assert decoding.damage is None


async def test_240_seconds_of_noise_fit_the_upstreams_limit(decoders: Decoders) -> None:
    noise = random.Random(1).randbytes(240 * 32_000)
    encoded = await encode_flac(noise, decoders)
    assert -(-len(encoded) // 3) * 4 + 100 <= MOST_ENCODED_BYTES
    assert await decode_flac(encoded, decoders) == noise


async def test_bytes_that_are_not_flac_are_undecodable(decoders: Decoders) -> None:
    for damaged in (b"", b"fLaC", b"no FLAC at all", (await encode_flac(spoken(), decoders))[:30]):
        with pytest.raises(InternalError):
            await decode_flac(damaged, decoders)


async def test_a_cancelled_caller_releases_the_encoder() -> None:
    decoders = Decoders(AudioSettings(decoder_processes=1))
    encoding = asyncio.create_task(encode_flac(bytes(240 * 32_000), decoders))
    await asyncio.sleep(0.005)
    encoding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await encoding
    async with asyncio.timeout(10):
        assert (await encode_flac(spoken(), decoders))[:4] == b"fLaC"
