"""The short form of bench.long_audio: long audio through a real `serve` and the simulator."""

from pathlib import Path

import pytest

from bench.long_audio import MIB, joined, measured, srt_starts

pytestmark = [pytest.mark.timeout(180), pytest.mark.alone]
MEDIA = Path(__file__).parents[1] / "media"
MINUTES, LATENCY = 12.0, 2.0
MOST_MIB = 320  # of the gateway and its decoders together; the recording is 127 MB of samples


def test_a_long_recording_is_cut_in_pauses_and_sent_while_it_is_decoded(tmp_path: Path) -> None:
    recording = joined(MEDIA, MINUTES, tmp_path, 44_100, 2)
    found = measured("ours", recording, LATENCY, tmp_path)
    assert found.spoken_cuts == 0
    assert 3 <= found.requests <= MINUTES * 60 / 120  # parts of at least 120 s
    assert found.billed <= recording.seconds + found.requests
    # One after the other, each call would take its time behind the first text.
    assert found.seconds - found.first_text < LATENCY * (found.requests - 1) + 5
    assert found.first_text < found.seconds
    assert found.peak_bytes < MOST_MIB * MIB


def test_cuts_of_the_toolkit_are_read_from_its_subtitles() -> None:
    cues = "0\n00:00:00,000 --> 00:02:01,500\na\n\n1\n00:02:01,500 --> 01:00:00,000\nb\n"
    assert srt_starts(cues) == [0.0, 121.5]
