"""Lists: columns without a terminal, a table on a terminal; text in a cell is never markup.

Covers: app.cli.printing
"""

import io
import sys
from unittest import mock

import pytest

from app.cli.printing import print_json, print_table, safe_lines

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


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """ATTACKS L9: `jobs list` and `jobs show` printed escape sequences of a reference or a text."""
    evil = "a\x1b]0;owned\x07b\x9b2Jc\x7f"
    print_table(("reference",), [(evil,)])
    print_json({"reference": evil})
    said = f"{capsys.readouterr().out}{safe_lines(evil)}"
    assert not {"\x1b", "\x07", "\x9b", "\x7f"} & set(said)
    assert said.endswith("\na?]0;owned?b?2Jc?")
    assert safe_lines("one\ntwo") == "one\ntwo"
    assert "a\\u001b]0;owned\\u0007b\\u009b2Jc\\u007f" in said
