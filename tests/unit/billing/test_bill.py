"""Tests of app.billing.bill.

Covers: app.billing.bill
"""

from datetime import UTC, datetime

import pytest

from app.billing.bill import BillLine, read_bill, regions_of
from tests.simulator.bill import Bill, Usage

MOMENT = datetime(2026, 11, 21, 5, 28, tzinfo=UTC)
HEAD = "request_id,model,seconds\n"


def test_the_simulators_bill_has_the_columns_that_reconcile_reads() -> None:
    bill = Bill(seed=1, rounding="ceil")
    bill.charge("r1", MOMENT, "cn-beijing", "m", Usage(1.5, 2, 0, 0, 40, 2, 15))
    lines = read_bill(bill.csv())
    assert lines == [BillLine("r1", "m", 2_000, "cn-beijing", MOMENT, 40, 2, 15)]
    assert regions_of(lines) == {"cn-beijing"}


def test_three_columns_are_enough() -> None:
    assert read_bill(f"{HEAD}r1,m,1.25\n") == [BillLine("r1", "m", 1_250)]
    assert regions_of(read_bill(f"{HEAD}r1,m,1\n")) == frozenset()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lacks the column request_id"),
        ("request_id,model\nr1,m\n", "lacks the column seconds"),
        (HEAD, "no lines"),
        (f"{HEAD}r1,m,1\nr2,m,many\n", "Line 3"),
        (f"{HEAD}r1,m,-1\n", "Line 2"),
        (f"{HEAD}r1,m,NaN\n", "Line 2"),
        (f"{HEAD}r1,m,Infinity\n", "Line 2"),
        (f"{HEAD}r1\n", "Line 2"),
        (f"{HEAD},m,1\n", "Line 2"),
        (f"{HEAD}r1,m,1,more\n", "Line 2"),
    ],
)
def test_an_unreadable_bill_is_an_error_of_one_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_bill(text)
