"""Tests of app.billing.bill.

Covers: app.billing.bill, app.billing.reconcile, app.cli.reconcile, app.jobs.reconcile
"""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from app.billing.bill import BillLine
from app.billing.reconcile import Report
from app.db.database import Database
from app.jobs.reconcile import BillScope, apply, days_of, look
from app.speech.engine import Billed
from tests.support.scenario import (
    NANO_PER_SECOND,
    NOW,
    REGION,
    Scenario,
    answer,
    failure,
    part_span,
)

pytestmark = pytest.mark.anyio
SCOPE = BillScope("scripted")
ANSWERED = BillLine("req-1", "echo", 3_000, REGION, NOW)
LOST = BillLine("req-lost", "echo", 2_000, REGION, NOW)
BILL = [ANSWERED, LOST]


async def with_doubt(db: Database) -> Scenario:
    """Create a job with a call in doubt and, after it, an answered call of two seconds."""
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    await scenario.call_failed(job, await scenario.call(job), failure(Billed.MAYBE))
    await scenario.answered(job, await scenario.call(job))
    await scenario.complete(job)
    return scenario


async def settled(scenario: Scenario) -> int:
    lines = await scenario.lines()
    return sum(line["nano"] for line in lines if line["kind"] in {"settle", "adjust"})


def kinds(report: Report) -> set[str]:
    return {found.kind for found in report.differences}


async def test_a_preview_changes_nothing(db: Database) -> None:
    scenario = await with_doubt(db)
    before = await scenario.lines(), await scenario.calls()
    report = await db.read(look, BILL, SCOPE)
    assert kinds(report) == {"rounding", "in_doubt_billed"}
    assert (report.recorded_nano, report.billed_nano) == (2 * NANO_PER_SECOND, 5 * NANO_PER_SECOND)
    assert (await scenario.lines(), await scenario.calls()) == before


async def test_apply_makes_the_sums_equal_the_bill_and_a_second_run_finds_nothing(
    db: Database,
) -> None:
    scenario = await with_doubt(db)
    await db.write(apply, BILL, SCOPE, now=NOW)
    assert await settled(scenario) == 5 * NANO_PER_SECOND
    lines = await scenario.lines()
    again = await db.write(apply, BILL, SCOPE, now=NOW)
    assert again.differences == []
    assert await scenario.lines() == lines


async def test_a_matched_call_is_not_matched_by_a_later_bill(db: Database) -> None:
    await with_doubt(db)
    await db.write(apply, BILL, SCOPE, now=NOW)
    later = [*BILL, replace(LOST, request_id="req-of-others")]
    report = await db.read(look, later, SCOPE)
    assert kinds(report) == {"unmatched"}


async def test_a_corrected_bill_lowers_the_sums(db: Database) -> None:
    scenario = await with_doubt(db)
    await db.write(apply, BILL, SCOPE, now=NOW)
    await db.write(apply, [replace(ANSWERED, millis=1_000)], SCOPE, now=NOW)
    assert await settled(scenario) == NANO_PER_SECOND


@pytest.mark.parametrize(
    "scope",
    [
        BillScope("another"),
        BillScope("scripted", since=NOW + timedelta(hours=1)),
        BillScope("scripted", until=NOW - timedelta(hours=1)),
    ],
)
async def test_calls_of_another_account_are_not_adjusted(db: Database, scope: BillScope) -> None:
    await with_doubt(db)
    report = await db.read(look, [replace(LOST, request_id="req-of-others")], scope)
    assert (report.calls, kinds(report)) == (0, {"unmatched"})


async def test_open_calls_and_other_regions_are_not_compared(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    await scenario.answered(job, await scenario.call(job), heard=answer())
    await scenario.call(job, part_span(1))
    assert (await db.read(look, [ANSWERED], SCOPE)).calls == 1
    try_next_route = BillLine("req-2", "echo", 1_000, "elsewhere")
    assert (await db.read(look, [try_next_route], SCOPE)).calls == 0


def test_days_of_a_bill_are_whole_or_unknown() -> None:
    midnight = NOW.replace(hour=0, minute=0)
    assert days_of(BILL) == (midnight, midnight + timedelta(days=1))
    assert days_of([ANSWERED, replace(LOST, started_at=None)]) is None


def run(url: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli.main", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={
            "PATH": "",
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "GATEWAY_DATA_DIR": str(folder),
            "GATEWAY_DATABASE__URL": url,
        },
    )


async def test_the_command_line_reconciles(db: Database, database_url: str, tmp_path: Path) -> None:
    scenario = await with_doubt(db)
    bill = tmp_path / "bill.csv"
    bill.write_text(f"request_id,model,seconds,region\nreq-1,echo,3,{REGION}\nr2,echo,2,{REGION}\n")
    words = ("reconcile", "--bill", str(bill), "--engine", "scripted")
    looked = run(database_url, tmp_path, *words)
    assert looked.returncode == 0, looked.stderr
    assert "in doubt and billed: 0.00044 CNY, 2 s" in looked.stdout
    assert await settled(scenario) == 2 * NANO_PER_SECOND
    done = run(database_url, tmp_path, *words, "--apply", "--json")
    assert json.loads(done.stdout)["sums"]["rounding"] == NANO_PER_SECOND
    assert await settled(scenario) == 5 * NANO_PER_SECOND
    bill.write_text("request_id\n")
    wrong = run(database_url, tmp_path, *words)
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (1, 1)


async def test_the_command_line_sets_and_lists_prices(database_url: str, tmp_path: Path) -> None:
    words = ("--currency", "CNY", "--region", "cn-beijing", "--from")
    for amount, start in (("0.00022", "2026-01-01"), ("0.0003", "2027-01-01")):
        done = run(
            database_url, tmp_path, "prices", "set", "qwen3-asr-flash", amount, *words, start
        )
        assert done.returncode == 0, done.stderr
    listed = json.loads(run(database_url, tmp_path, "prices", "list", "--json").stdout)
    assert [(row["amount"], row["valid_until"]) for row in listed] == [
        ("0.00022", "2027-01-01T00:00:00.000Z"),
        ("0.0003", None),
    ]


@pytest.mark.parametrize("changed", ["model", "amount", "unit", "currency", "from", "fine"])
def test_an_invalid_price_is_refused_with_a_sentence(changed: str, tmp_path: Path) -> None:
    said = {"model": "qwen3-asr-flash", "amount": "1", "unit": "second", "currency": "CNY"}
    said = {**said, "from": "2026-01-01", changed: "fortnight"}
    if changed == "fine":
        said["amount"] = "0.00000000001"
    options = [f"--{name}={said[name]}" for name in ("unit", "currency", "from")]
    words = ("prices", "set", said["model"], said["amount"], "--region=r", *options)
    done = run(f"sqlite:///{tmp_path / 'none.db'}", tmp_path, *words)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
