"""Usage and costs, grouped by day, model, project or key."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from app.billing.tables import USAGE_KINDS, ledger_line
from app.db.schema import literals

UsageGroup = Literal["day", "model", "project", "key"]


@dataclass(frozen=True, slots=True)
class Period:
    """The time from `since` up to `until`, which is excluded; both are aware."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class UsageSum:
    """The usage and cost of one group; `group` has its values in the requested order."""

    group: tuple[str | None, ...]
    currency: str
    transcriptions: int
    used_ms: int
    used_tokens: int
    nano: int


def sum_usage(
    tx: sa.Connection, *, project_id: str, period: Period, by: Sequence[UsageGroup]
) -> list[UsageSum]:
    """Return the sums of each group and currency, ordered by group. Days are UTC days."""
    line = ledger_line.c
    if tx.dialect.name == "sqlite":
        day = sa.func.substr(sa.cast(line.created_at, sa.String), 1, 10)
    else:
        day = sa.func.to_char(sa.func.timezone("UTC", line.created_at), "YYYY-MM-DD")
    groups = {"day": day, "model": line.model, "project": line.project_id, "key": line.key_id}
    columns = [groups[name].label(f"by_{name}") for name in by]
    query = (
        sa.select(
            *columns,
            line.currency,
            sa.func.count(line.transcription_id.distinct()),
            sa.func.sum(line.used_ms),
            sa.func.sum(line.used_tokens),
            sa.func.sum(line.nano),
        )
        .where(
            line.project_id == project_id,
            line.kind.in_(literals(USAGE_KINDS)),
            line.created_at >= period.since,
            line.created_at < period.until,
        )
        .group_by(*columns, line.currency)
        .order_by(*columns, line.currency)
    )
    width = len(columns)
    return [
        UsageSum(tuple(row[:width]), str(row[width]), *map(int, tuple[Any, ...](row)[width + 1 :]))
        for row in tx.execute(query)
    ]
