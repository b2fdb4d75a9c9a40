"""`asr-gateway reconcile`: our lines against the upstream's bill, each difference explained."""

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from app.billing.bill import BillLine, read_bill
from app.billing.reconcile import KINDS, Difference, Report
from app.db.migrate import open_database
from app.jobs.reconcile import Scope, apply, days_of, look
from app.kit.clock import utc_now
from app.kit.money import format_nano
from app.settings import Settings

DASHSCOPE = "dashscope"
_WORDS = {
    "in_doubt_billed": "in doubt and billed",
    "in_doubt_not_billed": "in doubt and not billed",
    "failed_billed": "failed but billed",
    "rounding": "answered, billed otherwise (rounding)",
    "unmatched": "billed, unknown to us",
    "not_on_the_bill": "settled but not on the bill",
}

Moment = Annotated[datetime | None, typer.Option(help="UTC; the days the bill's lines span.")]


def reconcile(
    bill: Annotated[Path, typer.Option(help="The upstream's bill as CSV: docs/reconcile.md.")],
    engine: Annotated[
        list[str] | None, typer.Option(help="Whose bill it is: dashscope, dashscope/NAME.")
    ] = None,
    since: Moment = None,
    until: Moment = None,
    write: Annotated[
        bool, typer.Option("--apply", help="Write the lines that make it equal.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare with an upstream's bill; 0 when every difference is explained, else 1."""
    try:
        lines = read_bill(bill.read_text(encoding="utf-8-sig"))
        report = asyncio.run(
            _run(lines, _scope(lines, engine or [DASHSCOPE], since, until), write=write)
        )
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error
    print(json.dumps(_plain(report, applied=write), indent=2) if as_json else _told(report))
    if write and not as_json:
        print("Lines are written for all but what is unknown to us.")
    raise typer.Exit(0 if report.is_explained else 1)


def _scope(
    lines: Sequence[BillLine],
    engines: Sequence[str],
    since: datetime | None,
    until: datetime | None,
) -> Scope:
    first, last = days_of(lines) or (None, None)
    begin = since.replace(tzinfo=UTC) if since else first
    end = until.replace(tzinfo=UTC) if until else last
    return Scope(engines[0], begin, end, also=tuple(engines[1:]))


def _told(report: Report) -> str:
    money = report.currency
    ours, billed = format_nano(report.recorded_nano), format_nano(report.billed_nano)
    said = [f"{report.calls} calls, {ours} {money}; {report.lines} billed, {billed} {money}."]
    for kind in KINDS:
        if found := report.of(kind):
            nano = format_nano(sum(one.nano for one in found))
            seconds = sum(one.millis for one in found) / 1000
            said.append(f"{len(found):6}  {_WORDS[kind]}: {nano} {money}, {seconds:g} s")
    return "\n".join(said)


def _plain(report: Report, *, applied: bool) -> dict[str, Any]:
    return {
        "calls": report.calls,
        "lines": report.lines,
        "recorded_nano": report.recorded_nano,
        "billed_nano": report.billed_nano,
        "currency": report.currency,
        "explained": report.is_explained,
        "applied": applied,
        "sums": {kind: sum(one.nano for one in report.of(kind)) for kind in KINDS},
        "differences": [_difference(found) for found in report.differences],
    }


def _difference(found: Difference) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "nano": found.nano,
        "millis": found.millis,
        "call_id": found.call.call_id if found.call else None,
        "transcription_id": found.call.account.transcription_id if found.call else None,
        "request_id": found.line.request_id if found.line else None,
    }


async def _run(lines: Sequence[BillLine], scope: Scope, *, write: bool) -> Report:
    async with open_database(Settings().database_url) as db:
        if write:
            return await db.write(apply, lines, scope, now=utc_now())
        return await db.read(look, lines, scope)
