"""Output of commands: rows as a table or as columns, and JSON."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.kit.clock import to_rfc3339

GAP = "  "


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows below the names of their columns: a table on a terminal, else plain columns."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        table = Table(*columns)
        for row in cells:
            table.add_row(*map(Text, row))
        Console().print(table)
        return
    lines = [[name.upper() for name in columns], *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print(GAP.join(map(str.ljust, line, widths)).rstrip())


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Print a value as JSON, dataclasses as objects and times as RFC 3339.

    Without `indent` the JSON is one line.
    """
    is_unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    print(
        json.dumps(
            value,
            ensure_ascii=not is_unicode,
            indent=indent,
            default=lambda found: (
                to_rfc3339(found) if isinstance(found, datetime) else asdict(found)
            ),
        )
    )
