"""FLAC of a part: the same samples again, smaller, and small enough whatever they are."""

import asyncio
import random
import wave

import pytest

from app.audio.encode import flac
from app.audio.ffmpeg import Decoders
from app.audio.normalise import decode
from app.errors import InternalError
from app.settings import AudioSettings
from tests.support.gateway import SPEECH

pytestmark = pytest.mark.anyio
MOST_ENCODED_BYTES = 10 << 20


@pytest.fixture
def decoders() -> Decoders:
    return Decoders(AudioSettings())


async def test_what_is_decoded_is_what_was_encoded(decoders: Decoders, tmp_path) -> None:  # noqa: ANN001
    with wave.open(str(SPEECH)) as file:
        pcm = file.readframes(file.getnframes())
    encoded = await flac(pcm, decoders)
    assert encoded[:4] == b"fLaC"
    assert len(encoded) < len(pcm) * 0.7
    path = tmp_path / "part.flac"
    path.write_bytes(encoded)
    async with decode(path, decoders=decoders, max_seconds=60) as decoding:
        assert b"".join([block async for block in decoding.blocks()]) == pcm


async def test_240_seconds_of_noise_fit_the_upstreams_limit(decoders: Decoders) -> None:
    noise = random.Random(1).randbytes(240 * 32_000)
    encoded = await flac(noise, decoders)
    assert -(-len(encoded) // 3) * 4 + 100 <= MOST_ENCODED_BYTES


async def test_an_encoder_that_does_not_work_is_an_error_of_ours() -> None:
    with pytest.raises(InternalError):
        await flac(b"\0\0", Decoders(AudioSettings(ffmpeg="/bin/false")))


async def test_a_caller_who_goes_away_leaves_no_child(decoders: Decoders) -> None:
    encoding = asyncio.create_task(flac(bytes(240 * 32_000), decoders))
    await asyncio.sleep(0.05)
    encoding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await encoding
