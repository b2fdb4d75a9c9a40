"""PCM that is converted in this process equals FFmpeg's, except for rounding.

Covers: app.audio.decoding.resample, app.audio.pcm
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
import pytest

from app.audio.decoding.resample import Resampler
from app.audio.pcm import RATES
from tests.unit.audio.audio_samples import Make

MAX_BYTES = 1 << 20
NOISE_PEAK = 10_000
# FFmpeg rounds its filter to 16 bit: the difference is 58 dB below noise of all frequencies.
MAX_SHARE, MAX_RMS_SHARE = 5e-3, 1.2e-3

Samples = npt.NDArray[np.int64]


def samples(pcm: bytes) -> Samples:
    return np.frombuffer(pcm, "<i2").astype(np.int64)


def converted(pcm: bytes, rate: int, channels: int, sizes: Sequence[int] = (65_536,)) -> Samples:
    resampler = Resampler(rate, channels, MAX_BYTES)
    made, at, turn = [], 0, 0
    while at < len(pcm):
        size = sizes[turn % len(sizes)] * 2 * channels
        made.append(resampler.convert(pcm[at : at + size]))
        at, turn = at + size, turn + 1
    return samples(b"".join(made) + resampler.end())


def by_ffmpeg(pcm: bytes, rate: int, channels: int) -> Samples:
    given = ("-f", "s16le", "-ar", str(rate), "-ac", str(channels), "-i", "pipe:0")
    asked = ("-ac", "1", "-ar", "16000", "-f", "s16le", "pipe:1")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *given, *asked]
    return samples(subprocess.run(command, input=pcm, check=True, capture_output=True).stdout)


def assert_alike(ours: Samples, theirs: Samples) -> None:
    assert len(ours) == len(theirs)
    difference = np.abs(ours - theirs)
    assert difference.max() <= 1 + MAX_SHARE * rms(theirs)
    assert rms(difference) <= 0.6 + MAX_RMS_SHARE * rms(theirs)


def rms(signal: Samples) -> float:
    return float(np.sqrt(np.mean(signal**2)))


def noise(rate: int, channels: int, seconds: float = 1.5) -> bytes:
    drawn = np.random.default_rng(7).integers(
        -NOISE_PEAK, NOISE_PEAK, round(rate * seconds) * channels
    )
    return drawn.astype("<i2").tobytes()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", sorted(RATES))
def test_noise_of_all_frequencies_is_converted_as_ffmpeg_does(rate: int, channels: int) -> None:
    pcm = noise(rate, channels)
    assert_alike(converted(pcm, rate, channels), by_ffmpeg(pcm, rate, channels))


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (8_000, 1), (48_000, 2)])
def test_speech_is_converted_as_ffmpeg_does(make: Make, rate: int, channels: int) -> None:
    path: Path = make("a.raw", "-ar", str(rate), "-ac", str(channels), "-f", "s16le")
    pcm = path.read_bytes()
    assert_alike(converted(pcm, rate, channels), by_ffmpeg(pcm, rate, channels))


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (11_025, 1), (16_000, 2), (8_000, 1)])
def test_the_sizes_of_the_pieces_change_nothing_but_rounding(rate: int, channels: int) -> None:
    pcm = noise(rate, channels, 0.4)
    whole = converted(pcm, rate, channels)
    for sizes in ((1,), (7, 1, 300), (4_096, 5)):
        assert np.abs(converted(pcm, rate, channels, sizes) - whole).max() <= 1


@pytest.mark.parametrize("count", [0, 1, 2, 30, 44, 45, 46, 47, 100, 441])
def test_a_recording_may_be_shorter_than_the_filter(count: int) -> None:
    ours = converted(noise(44_100, 1)[: count * 2], 44_100, 1)
    assert len(ours) == -(-count * 160 // 441)


def test_samples_at_16_khz_stay_as_they_are() -> None:
    pcm = noise(16_000, 1)
    assert np.array_equal(converted(pcm, 16_000, 1), samples(pcm))


def test_the_loudest_samples_are_clipped_and_not_wrapped() -> None:
    square = np.where(np.arange(44_100) // 50 % 2, 32_767, -32_768).astype("<i2").tobytes()
    assert_alike(converted(square, 44_100, 1), by_ffmpeg(square, 44_100, 1))


@pytest.mark.parametrize(("rate", "channels"), [(44_099, 1), (0, 1), (16_000, 3), (16_000, 0)])
def test_other_forms_are_not_converted(rate: int, channels: int) -> None:
    with pytest.raises(ValueError, match="not converted"):
        Resampler(rate, channels, MAX_BYTES)
