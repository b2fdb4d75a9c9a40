"""`asr-gateway reconcile`: the ledger compared with a provider's bill, differences explained."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from app.billing.bill import read_bill
from app.billing.reconcile import KINDS, Report
from app.cli.database import with_database
from app.cli.printing import print_json
from app.db.database import Database
from app.jobs.reconcile import BillScope, apply, days_of, look
from app.kit.clock import utc_now
from app.kit.money import format_nano

DASHSCOPE = "dashscope"
_NAMES = {
    "in_doubt_billed": "in doubt and billed",
    "in_doubt_not_billed": "in doubt and not billed",
    "failed_billed": "failed but billed",
    "rounding": "answered, billed differently (rounding)",
    "unmatched": "billed, unknown to us",
    "not_on_the_bill": "settled but not on the bill",
}

Moment = Annotated[datetime | None, typer.Option(help="In UTC (default: the days of the bill).")]


def reconcile(
    bill: Annotated[Path, typer.Option(help="The provider's bill as CSV; see docs/reconcile.md.")],
    engine: Annotated[
        list[str] | None,
        typer.Option(help="Account of the bill: dashscope or dashscope/NAME; repeatable."),
    ] = None,
    since: Moment = None,
    until: Moment = None,
    write: Annotated[
        bool, typer.Option("--apply", help="Write ledger entries for the differences.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the ledger with a provider's bill. Exit code 0: every difference is explained."""
    try:
        lines = read_bill(bill.read_text(encoding="utf-8-sig"))
        first, last = days_of(lines) or (None, None)
        name, *others = engine or [DASHSCOPE]
        scope = BillScope(
            name,
            since.replace(tzinfo=UTC) if since else first,
            until.replace(tzinfo=UTC) if until else last,
            also=tuple(others),
        )

        async def compare(db: Database) -> Report:
            if write:
                return await db.write(apply, lines, scope, now=utc_now())
            return await db.read(look, lines, scope)

        report = with_database(compare)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error
    if as_json:
        print_json(_report_json(report, applied=write))
    else:
        money = report.currency
        ours, billed = format_nano(report.recorded_nano), format_nano(report.billed_nano)
        print(f"{report.calls} calls, {ours} {money}; {report.lines} billed, {billed} {money}.")
        for kind in KINDS:
            if found := report.of(kind):
                nano = format_nano(sum(one.nano for one in found))
                seconds = sum(one.millis for one in found) / 1000
                print(f"{len(found):6}  {_NAMES[kind]}: {nano} {money}, {seconds:g} s")
        if write:
            print("Ledger entries were written for all differences but those of unknown calls.")
    raise typer.Exit(0 if report.is_explained else 1)


def _report_json(report: Report, *, applied: bool) -> dict[str, Any]:
    return {
        "calls": report.calls,
        "lines": report.lines,
        "recorded_nano": report.recorded_nano,
        "billed_nano": report.billed_nano,
        "currency": report.currency,
        "explained": report.is_explained,
        "applied": applied,
        "sums": {kind: sum(one.nano for one in report.of(kind)) for kind in KINDS},
        "differences": [
            {
                "kind": one.kind,
                "nano": one.nano,
                "millis": one.millis,
                "call_id": one.call.call_id if one.call else None,
                "transcription_id": one.call.account.transcription_id if one.call else None,
                "request_id": one.line.request_id if one.line else None,
            }
            for one in report.differences
        ],
    }
