"""Tests of app.billing.bill.

Covers: app.billing.bill, app.billing.reconcile
"""

from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.billing.bill import BillLine
from app.billing.ledger import LedgerAccount
from app.billing.prices import Tariff
from app.billing.reconcile import RecordedCall, compare
from tests.simulator.bill import ROUNDINGS

TARIFF = Tariff("r", "CNY", {"second": 100}, ("prc_1",))
ACCOUNT = LedgerAccount("prj_1", None, "tr_1", "qwen", "CNY")
JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
ANSWERED = RecordedCall(
    "call_1", "answered", "r1", "m", 2_000, JANUARY, ACCOUNT, TARIFF, 200, 2_000
)  # fmt: skip
IN_DOUBT = replace(ANSWERED, call_id="call_2", state="in_doubt", request_id=None, nano=0, used_ms=0)
FAILED = replace(IN_DOUBT, call_id="call_3", state="failed")
LINE = BillLine("r1", "m", 2_000, "r")
OTHER = replace(LINE, request_id="r9")
NEITHER = [("in_doubt_not_billed", 0), ("unmatched", 0)]


def told(calls: list[RecordedCall], bill: list[BillLine]) -> list[tuple[str, int]]:
    return [(found.kind, found.nano) for found in compare(calls, bill).differences]


def test_an_equal_bill_has_no_differences() -> None:
    report = compare([ANSWERED], [LINE])
    assert (report.recorded_nano, report.billed_nano, report.differences) == (200, 200, [])
    assert report.is_explained


@pytest.mark.parametrize(
    ("calls", "bill", "said"),
    [
        ([ANSWERED], [replace(LINE, millis=3_000)], [("rounding", 100)]),
        ([ANSWERED], [replace(LINE, millis=1_000)], [("rounding", -100)]),
        ([ANSWERED, IN_DOUBT], [LINE, OTHER], [("in_doubt_billed", 200)]),
        ([ANSWERED, IN_DOUBT], [LINE], [("in_doubt_not_billed", 0)]),
        ([ANSWERED, FAILED], [LINE, OTHER], [("failed_billed", 200)]),
        ([ANSWERED, FAILED], [LINE], []),
        ([ANSWERED], [LINE, OTHER], [("unmatched", 0)]),
        ([ANSWERED], [LINE, LINE], [("unmatched", 0)]),
        ([IN_DOUBT], [replace(OTHER, model="n")], NEITHER),
        ([IN_DOUBT], [replace(OTHER, region="s")], NEITHER),
        ([ANSWERED], [OTHER], [("not_on_the_bill", -200), ("unmatched", 0)]),
        ([FAILED, IN_DOUBT], [OTHER], [("in_doubt_billed", 200)]),
        ([IN_DOUBT, replace(FAILED, nano=200)], [OTHER], [("in_doubt_not_billed", 0)]),
    ],
)  # fmt: skip
def test_each_difference_has_a_name(
    calls: list[RecordedCall], bill: list[BillLine], said: list[tuple[str, int]]
) -> None:
    assert told(calls, bill) == said
    assert compare(calls, bill).is_explained == ("unmatched" not in dict(said))


def test_calls_of_two_currencies_are_not_on_one_bill() -> None:
    dollars = replace(IN_DOUBT, tariff=replace(TARIFF, currency="USD"))
    with pytest.raises(ValueError, match="CNY and USD"):
        compare([ANSWERED, dollars], [LINE])


@given(
    st.lists(st.integers(1, 9_000), max_size=12),
    st.sampled_from(list(ROUNDINGS)),
    st.integers(0, 99),
)
def test_every_call_in_doubt_is_matched_for_any_rounding(
    lengths: list[int], rounding: str, seed: int
) -> None:
    rounded = ROUNDINGS[rounding]  # type: ignore[index]
    calls = [replace(IN_DOUBT, call_id=f"c{n}", audio_ms=ms) for n, ms in enumerate(lengths)]
    bill = [
        BillLine(f"r{n}", "m", max(1, rounded(ms / 1000)) * 1000) for n, ms in enumerate(lengths)
    ]
    Random(seed).shuffle(bill)
    report = compare(calls, bill)
    assert len(report.matched) == len(calls)
    assert sum(found.nano for found in report.differences) == report.billed_nano
    assert report.is_explained
