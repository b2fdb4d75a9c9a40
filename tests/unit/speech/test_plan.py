"""One call where it fits, parts where not, and a hold that is never too low."""

from app.speech.catalogue import load_catalogue
from app.speech.plan import PlanInput, bound, plan

BASE = load_catalogue().find("local/base")


def wish(seconds: float | None) -> PlanInput:
    return PlanInput(seconds, BASE, 43_200)


def test_what_fits_is_one_call() -> None:
    chosen = plan(wish(BASE.part_seconds))
    assert chosen.kind == "direct"
    assert "120 s" in chosen.why


def test_what_is_longer_or_of_unknown_length_is_split() -> None:
    assert plan(wish(BASE.part_seconds + 0.1)).kind == "split"
    assert plan(wish(None)).kind == "split"
    assert plan(wish(None)).part_seconds == BASE.part_seconds


def test_the_bound_has_a_second_of_slack_for_every_part() -> None:
    assert bound(wish(10.2)) == (12_000, 0, 0)
    assert bound(wish(600)) == (610_000, 0, 0)


def test_an_unknown_length_is_bounded_by_the_longest_allowed() -> None:
    assert bound(wish(None)) == (43_200_000 + 720_000, 0, 0)
