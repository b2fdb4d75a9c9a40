"""One call or several parts, and the usage that is held for them.

Covers: app.speech.planning.plan
"""

import pytest

from app.errors import AudioTooLong
from app.speech.catalogue import load_catalogue
from app.speech.planning.plan import PlanInput, VerifiedFile, max_usage, plan

MB = 1 << 20
FLASH = load_catalogue().find("qwen3-asr-flash")
BASE = load_catalogue().find("local/base")


def request(seconds: float | None) -> PlanInput:
    return PlanInput(seconds, BASE, 43_200)


def test_short_audio_is_one_call() -> None:
    chosen = plan(request(BASE.part_seconds))
    assert chosen.kind == "direct"
    assert "120 s" in chosen.reason


def test_longer_audio_and_audio_of_unknown_length_is_split() -> None:
    assert plan(request(BASE.part_seconds + 0.1)).kind == "split"
    assert plan(request(None)).kind == "split"
    assert plan(request(None)).part_seconds == BASE.part_seconds


def test_the_usage_has_a_second_more_for_every_part() -> None:
    assert max_usage(request(10.2)) == (12_000, 0, 0)
    assert max_usage(request(600)) == (610_000, 0, 0)


def test_an_unknown_length_is_taken_as_the_longest_allowed() -> None:
    assert max_usage(request(None)) == (43_200_000 + 720_000, 0, 0)


def verified(seconds: float | None, fmt: str = "mp3", **fields: int) -> PlanInput:
    upload = VerifiedFile(**{"format": fmt, "channels": 1, "bytes": 1_000} | fields)  # type: ignore[arg-type]
    return PlanInput(seconds, FLASH, 43_200, upload=upload)


@pytest.mark.parametrize("fmt", ["wav", "mp3", "opus"])
def test_a_file_that_the_model_accepts_is_sent_as_received(fmt: str) -> None:
    for asked in (
        verified(1.0, fmt),
        verified(300.0, fmt),
        verified(10.0, fmt, bytes=15 * MB // 2 - 100),
    ):
        chosen = plan(asked)
        assert (chosen.kind, chosen.as_is, chosen.audio_format) == ("direct", True, fmt)
        assert fmt in chosen.reason


@pytest.mark.parametrize(
    "asked",
    [
        verified(0.99),
        verified(300.01),
        verified(None),
        verified(10.0, channels=2),
        verified(10.0, "flac"),
        verified(10.0, bytes=15 * MB // 2 + 1_000),
        PlanInput(10.0, FLASH, 43_200),
        PlanInput(10.0, BASE, 43_200, upload=VerifiedFile("mp3", 1, 1_000)),
    ],
)
def test_other_files_are_decoded(asked: PlanInput) -> None:
    assert not plan(asked).as_is


def test_without_split_it_is_one_call_or_an_error() -> None:
    def undivided(seconds: float | None) -> PlanInput:
        return PlanInput(seconds, FLASH, 43_200, may_split=False)

    for seconds in (1.0, 241.0, 300.0, None):
        chosen = plan(undivided(seconds))
        assert (chosen.kind, chosen.part_seconds, chosen.may_split) == ("direct", 300, False)
        assert max_usage(undivided(seconds)).millis == round(seconds or 300) * 1_000 + 1_000
    with pytest.raises(AudioTooLong, match="qwen3-asr-flash accepts 300 s"):
        plan(undivided(301.0))


def test_an_unverified_length_may_be_a_little_too_long() -> None:
    unverified = PlanInput(300.4, FLASH, 43_200, may_split=False)
    assert plan(unverified).kind == "direct"
    exact = PlanInput(300.4, FLASH, 43_200, may_split=False, upload=VerifiedFile("mp3", 1, 1_000))
    with pytest.raises(AudioTooLong):
        plan(exact)
