"""Output of commands: rows as a table or as columns, and JSON."""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.kit.clock import to_rfc3339
from app.kit.text import printable

GAP = "  "
_CONTROL = re.compile("[\x7f-\x9f]")  # JSON itself escapes those below U+0020


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows below the names of their columns: a table on a terminal, else plain columns."""
    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
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
    text = json.dumps(
        value,
        ensure_ascii=not is_unicode,
        indent=indent,
        default=lambda found: to_rfc3339(found) if isinstance(found, datetime) else asdict(found),
    )
    print(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def safe_lines(text: str) -> str:
    """Return a text whose lines hold no control characters: a terminal would obey them."""
    return "\n".join(map(printable, text.split("\n")))
