"""Rows for people: a table on a terminal, else columns apart by two spaces that tools can cut."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

GAP = "  "


def show(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows below the names of their columns."""
    told = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        table = Table(*columns)
        for row in told:
            table.add_row(*map(Text, row))
        Console().print(table)
        return
    whole = [[name.upper() for name in columns], *told]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    for row in whole:
        print(GAP.join(map(str.ljust, row, widths)).rstrip())
