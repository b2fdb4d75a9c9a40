"""Lists: columns without a terminal, a table on a terminal; text in a cell is never markup.

Covers: app.cli.printing
"""

import io
import sys
from unittest import mock

import pytest

from app.cli.printing import print_table

COLUMNS, ROWS = ("id", "name"), [("1", "[red]a[/red]"), ("22", None)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_columns_are_apart(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, ROWS)
    assert capsys.readouterr().out == "ID  NAME\n1   [red]a[/red]\n22\n"


def test_on_a_terminal_there_is_a_table() -> None:
    terminal = Terminal()
    with mock.patch.object(sys, "stdout", terminal):
        print_table(COLUMNS, ROWS)
    assert "─" in terminal.getvalue()
    assert "[red]a[/red]" in terminal.getvalue()


def test_a_list_without_rows_has_a_header(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, [])
    assert capsys.readouterr().out == "ID  NAME\n"
