"""`asr-gateway usage`: used seconds and their cost, by day and model."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from app.cli.connect import connect
from app.cli.printing import print_json, print_table
from app.cli.signals import Interrupts, run_async


class Grouping(StrEnum):
    """The columns by which rows may be summed."""

    DAY = "day"
    MODEL = "model"
    PROJECT = "project"
    KEY = "key"


Moment = Annotated[str | None, typer.Option(help="RFC 3339, e.g. 2026-11-01T00:00:00Z.")]


def usage(
    by: Annotated[
        list[Grouping] | None,
        typer.Option(help="Column to group by; repeatable (default: day and model)."),
    ] = None,
    since: Moment = None,
    until: Moment = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Sum usage and cost, by default of the last 30 days."""
    groups = [str(group) for group in dict.fromkeys(by or (Grouping.DAY, Grouping.MODEL))]
    period = {"since": since, "until": until}
    query = {"by": groups, **{name: value for name, value in period.items() if value}}

    async def work(_interrupts: Interrupts) -> int:
        async with connect() as api:
            used = await api.get("/v1/usage", query)
            same = {"since": used["since"], "until": used["until"]}
            costs = await api.get("/v1/costs", {"by": groups, **same})
        if as_json:
            print_json({**used, "costs": costs["items"]})
        else:
            columns = (*groups, "transcriptions", "seconds", "tokens", "cost")
            print_table(columns, _rows(groups, used["items"], costs["items"]))
        return 0

    raise typer.Exit(run_async(work))


def _rows(
    groups: Sequence[str], used: Sequence[Mapping[str, Any]], costs: Sequence[Mapping[str, Any]]
) -> list[tuple[object, ...]]:
    def group_of(row: Mapping[str, Any]) -> tuple[object, ...]:
        return tuple(row[name] for name in groups)

    paid: dict[tuple[object, ...], list[str]] = {}
    for cost in costs:  # a row for each currency
        paid.setdefault(group_of(cost), []).append(f"{cost['amount']} {cost['currency']}")
    counts = {group_of(row): (row["transcriptions"], row["seconds"], row["tokens"]) for row in used}
    return [
        (*group, *counts.get(group, (0, 0, 0)), ", ".join(paid.get(group, ())))
        for group in sorted(counts.keys() | paid.keys(), key=str)
    ]
