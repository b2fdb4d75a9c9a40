"""Tests of app.kit.money.

Covers: app.kit.money
"""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.money import Money, cost_of_millis, format_nano, parse_nano

NANO = 1_000_000_000
AMOUNTS = st.integers(min_value=-(2**63), max_value=2**63 - 1)
COUNTS = st.integers(min_value=0, max_value=10**12)


@given(AMOUNTS)
def test_a_formatted_amount_is_parsed_back(nano: int) -> None:
    assert parse_nano(format_nano(nano)) == nano


@given(AMOUNTS)
def test_an_amount_is_written_plainly_and_exactly(nano: int) -> None:
    text = format_nano(nano)
    assert Fraction(text) == Fraction(nano, NANO)
    assert set(text) <= set("-.0123456789")
    assert not ("." in text and text[-1] in ".0")


@pytest.mark.parametrize(
    ("nano", "text"),
    [(2_640_000, "0.00264"), (0, "0"), (NANO, "1"), (-1, "-0.000000001"), (10 * NANO, "10")],
)
def test_usual_amounts_are_parsed(nano: int, text: str) -> None:
    assert Money(nano, "CNY").amount == text
    assert parse_nano(text) == nano


@pytest.mark.parametrize(
    "text", ["", "x", "1,5", "NaN", "Infinity", "-inf", "0.0000000001", "1e-10"]
)
def test_an_inexact_amount_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"amount|billionth"):
        parse_nano(text)


@given(nano=COUNTS, seconds=COUNTS)
def test_whole_seconds_cost_exactly_their_price(nano: int, seconds: int) -> None:
    assert cost_of_millis(nano, seconds * 1000) == nano * seconds


@given(nano=COUNTS, millis=COUNTS)
def test_parts_of_a_second_are_rounded_up_by_less_than_a_nano(nano: int, millis: int) -> None:
    exact = Fraction(nano * millis, 1000)
    assert 0 <= cost_of_millis(nano, millis) - exact < 1


@given(nano=COUNTS, millis=COUNTS, more=COUNTS)
def test_one_call_never_costs_more_than_two_of_the_same_length(
    nano: int, millis: int, more: int
) -> None:
    together = cost_of_millis(nano, millis + more)
    assert cost_of_millis(nano, millis) <= together
    assert together <= cost_of_millis(nano, millis) + cost_of_millis(nano, more)
