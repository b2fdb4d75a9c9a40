"""Raw samples have the format that the request states, and are not examined otherwise.

Covers: app.audio.decoding.decode, app.audio.inspection.inspect, app.audio.inspection.raw
"""

from pathlib import Path

import pytest

from app.audio.decoding.decode import open_decoding
from app.audio.ffmpeg import Decoders
from app.audio.inspection.inspect import inspect
from app.audio.inspection.raw import raw_found, raw_rate
from app.errors import AudioTooLong, EmptyAudio, InvalidParameter, Undecodable
from app.settings import AudioSettings
from tests.unit.audio.audio_samples import SPEECH, ffmpeg

pytestmark = pytest.mark.anyio
PCM = SPEECH.read_bytes()[44:]


@pytest.mark.parametrize(
    ("media_type", "is_pcm", "said", "rate"),
    [
        (None, False, None, None),
        (None, False, 8_000, None),
        ("audio/wav", False, 8_000, None),
        ("", True, None, 16_000),
        ("audio/wav", True, 8_000, 8_000),
        ("audio/pcm", False, None, 16_000),
        ("audio/x-pcm", False, 24_000, 24_000),
        ("Audio/L16; rate=8000; channels=1", False, None, 8_000),
        ("audio/l16;rate=8000", False, 44_100, 44_100),
        ("audio/l16;rate=x", False, None, 16_000),
        ("audio/L16;rate=8000;base64", False, None, 8_000),
        ("nonsense", False, None, None),
    ],
)
def test_a_media_type_or_an_option_selects_raw_pcm(
    media_type: str | None, is_pcm: bool, said: int | None, rate: int | None
) -> None:
    assert raw_rate(media_type, is_pcm=is_pcm, sample_rate=said) == rate


@pytest.mark.parametrize(
    ("media_type", "said"),
    [("audio/l16;channels=2", None), ("audio/pcm", 1), ("audio/l16;rate=999999", None)],
)
def test_impossible_formats_are_rejected(media_type: str, said: int | None) -> None:
    with pytest.raises(InvalidParameter):
        raw_rate(media_type, is_pcm=False, sample_rate=said)


def test_the_length_is_counted() -> None:
    found = raw_found(32_000, 8_000)
    assert (found.format, found.seconds, found.channels) == ("pcm", 2.0, 1)
    with pytest.raises(InvalidParameter, match="whole number of 16 bit samples"):
        raw_found(32_001, 8_000)
    with pytest.raises(EmptyAudio):
        raw_found(0, 8_000)
    with pytest.raises(Undecodable, match=r"only 99\.9 ms of audio"):
        raw_found(1_598, 8_000)
    assert raw_found(1_600, 8_000).seconds == 0.1


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
async def test_bytes_are_decoded_at_the_requested_sample_rate(
    tmp_path: Path, settings: AudioSettings, decoders: Decoders, rate: int
) -> None:
    path = tmp_path / "samples"
    path.write_bytes(PCM)
    found = await inspect(path, decoders=decoders, settings=settings, raw_rate=rate)
    async with open_decoding(path, decoders=decoders, max_seconds=60, raw_rate=rate) as decoding:
        sound = b"".join([block async for block in decoding.blocks()])
    assert found.seconds == len(PCM) / 2 / rate
    assert decoding.seconds == pytest.approx(found.seconds, abs=0.001)
    assert decoding.damage is None
    assert (sound == PCM) is (rate == 16_000)
    short = settings.model_copy(update={"max_seconds": 2})
    with pytest.raises(AudioTooLong):
        await inspect(path, decoders=decoders, settings=short, raw_rate=rate)


@pytest.mark.parametrize(
    ("arguments", "container"),
    [
        ("a.mp3", "MP3"),
        ("-id3v2_version 0 -write_xing 0 a.mp3", "MP3"),
        ("a.wav", "WAV"),
        ("a.flac", "FLAC"),
        ("a.ogg", "Ogg"),
        ("a.m4a", "MP4 or M4A"),
        ("a.mkv", "WebM or Matroska"),
        ("a.aiff", "AIFF"),
    ],
)
async def test_a_file_with_a_container_is_not_raw_pcm(
    tmp_path: Path, settings: AudioSettings, decoders: Decoders, arguments: str, container: str
) -> None:
    """CASES 17: an MP3 with `format=pcm` was 200 with an empty text."""
    *options, name = arguments.split()
    path = tmp_path / name
    ffmpeg("-i", str(SPEECH), "-t", "2", *options, str(path))
    with pytest.raises(InvalidParameter, match=f"looks like {container}; leave out `format`"):
        await inspect(path, decoders=decoders, settings=settings, raw_rate=16_000)


async def test_samples_that_look_like_a_playlist_are_samples(
    tmp_path: Path, settings: AudioSettings, decoders: Decoders
) -> None:
    path = tmp_path / "samples"
    path.write_bytes(b"#EXTM3U\nfile:///etc/passwd\n" * 2_000)
    await inspect(path, decoders=decoders, settings=settings, raw_rate=16_000)
    async with open_decoding(path, decoders=decoders, max_seconds=60, raw_rate=16_000) as decoding:
        sound = b"".join([block async for block in decoding.blocks()])
    assert sound == path.read_bytes()
