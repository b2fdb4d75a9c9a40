"""Reading of a provider's bill, a CSV file."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

REQUIRED_COLUMNS = ("request_id", "model", "seconds")
MILLIS = 1_000


@dataclass(frozen=True, slots=True)
class BillLine:
    """One billed call; docs/reconcile.md describes the columns."""

    request_id: str
    model: str
    millis: int
    region: str = ""
    started_at: datetime | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    text_input_tokens: int = 0


def read_bill(text: str) -> list[BillLine]:
    """Return the lines of a bill. Raises ValueError with a sentence that names the line."""
    rows = csv.DictReader(io.StringIO(text))
    missing = [name for name in REQUIRED_COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise ValueError(f"The bill lacks the column {missing[0]}; docs/reconcile.md lists them.")
    lines: list[BillLine] = []
    for row in rows:
        try:
            lines.append(_line({name: value or "" for name, value in row.items()}))
        except (ValueError, ArithmeticError) as error:
            raise ValueError(f"Line {rows.line_num} of the bill cannot be read: {row}.") from error
    if not lines:
        raise ValueError("The bill has no lines, so nothing can be said about it.")
    return lines


def regions_of(bill: Sequence[BillLine]) -> frozenset[str]:
    """Return the regions that the bill names. Calls in other regions are on another bill."""
    return frozenset(line.region for line in bill if line.region)


def _line(row: Mapping[str | None, Any]) -> BillLine:
    if None in row:
        raise ValueError("more cells than columns")
    started_at = None
    if began := str(row.get("started_at", "")):
        started_at = datetime.fromisoformat(began)
        started_at = (
            started_at.astimezone(UTC) if started_at.tzinfo else started_at.replace(tzinfo=UTC)
        )
    line = BillLine(
        request_id=row["request_id"],
        model=row["model"],
        millis=round(Decimal(row["seconds"]) * MILLIS),
        region=row.get("region", ""),
        started_at=started_at,
        input_tokens=int(row.get("input_tokens") or 0),
        output_tokens=int(row.get("output_tokens") or 0),
        text_input_tokens=int(row.get("text_input_tokens") or 0),
    )
    if min(line.millis, line.input_tokens, line.output_tokens, line.text_input_tokens) < 0:
        raise ValueError("a negative figure")
    if not (line.model and line.request_id):
        raise ValueError("no model or no request id")
    return line
