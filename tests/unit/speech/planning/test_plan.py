"""One call where it fits, parts where not, and a hold that is never too low."""

import pytest

from app.errors import AudioTooLong
from app.speech.catalogue import load_catalogue
from app.speech.planning.plan import PlanInput, Upload, max_usage, plan

MB = 1 << 20
FLASH = load_catalogue().find("qwen3-asr-flash")
BASE = load_catalogue().find("local/base")


def wish(seconds: float | None) -> PlanInput:
    return PlanInput(seconds, BASE, 43_200)


def test_what_fits_is_one_call() -> None:
    chosen = plan(wish(BASE.part_seconds))
    assert chosen.kind == "direct"
    assert "120 s" in chosen.reason


def test_what_is_longer_or_of_unknown_length_is_split() -> None:
    assert plan(wish(BASE.part_seconds + 0.1)).kind == "split"
    assert plan(wish(None)).kind == "split"
    assert plan(wish(None)).part_seconds == BASE.part_seconds


def test_the_bound_has_a_second_of_slack_for_every_part() -> None:
    assert max_usage(wish(10.2)) == (12_000, 0, 0)
    assert max_usage(wish(600)) == (610_000, 0, 0)


def test_an_unknown_length_is_bounded_by_the_longest_allowed() -> None:
    assert max_usage(wish(None)) == (43_200_000 + 720_000, 0, 0)


def whole(seconds: float | None, form: str = "mp3", **fields: int) -> PlanInput:
    upload = Upload(**{"form": form, "channels": 1, "bytes": 1_000} | fields)  # type: ignore[arg-type]
    return PlanInput(seconds, FLASH, 43_200, upload=upload)


@pytest.mark.parametrize("form", ["wav", "mp3", "opus"])
def test_what_suits_the_model_goes_as_it_is(form: str) -> None:
    for wish in (whole(1.0, form), whole(300.0, form), whole(10.0, form, bytes=15 * MB // 2 - 100)):
        chosen = plan(wish)
        assert (chosen.kind, chosen.as_is, chosen.form) == ("direct", True, form)
        assert form in chosen.reason


@pytest.mark.parametrize(
    "wish",
    [
        whole(0.99),
        whole(300.01),
        whole(None),
        whole(10.0, channels=2),
        whole(10.0, "flac"),
        whole(10.0, bytes=15 * MB // 2 + 1_000),
        PlanInput(10.0, FLASH, 43_200),
        PlanInput(10.0, BASE, 43_200, upload=Upload("mp3", 1, 1_000)),
    ],
)
def test_what_does_not_is_decoded(wish: PlanInput) -> None:
    assert not plan(wish).as_is


def test_undivided_is_one_call_of_the_models_longest_or_an_error() -> None:
    def undivided(seconds: float | None) -> PlanInput:
        return PlanInput(seconds, FLASH, 43_200, may_split=False)

    for seconds in (1.0, 241.0, 300.0, None):
        chosen = plan(undivided(seconds))
        assert (chosen.kind, chosen.part_seconds, chosen.may_split) == ("direct", 300, False)
        assert max_usage(undivided(seconds)).millis == round(seconds or 300) * 1_000 + 1_000
    with pytest.raises(AudioTooLong, match="qwen3-asr-flash takes 300 s"):
        plan(undivided(301.0))


def test_a_length_that_nobody_verified_is_given_the_benefit_of_the_doubt() -> None:
    unverified = PlanInput(300.4, FLASH, 43_200, may_split=False)
    assert plan(unverified).kind == "direct"
    verified = PlanInput(300.4, FLASH, 43_200, may_split=False, upload=Upload("mp3", 1, 1_000))
    with pytest.raises(AudioTooLong):
        plan(verified)
