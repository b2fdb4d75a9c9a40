"""Unit tests cannot open a database or a network connection: tests/unit/conftest.py prevents it."""

import socket
import sqlite3
from pathlib import Path

import pytest
from pytest_socket import SocketBlockedError


def test_no_internet_socket_can_be_opened() -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        with pytest.warns(UserWarning, match="socket"), pytest.raises(SocketBlockedError):
            socket.socket(family)


def test_no_sqlite_file_can_be_opened(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        sqlite3.connect(tmp_path / "x.db")
    assert type(caught.value).__name__ == "DatabaseOpenedError"


@pytest.mark.parametrize("name", ["db", "gateway", "shared", "shared_url", "postgres"])
def test_no_fixture_of_a_database_can_be_used(request: pytest.FixtureRequest, name: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="integration"):
        request.getfixturevalue(name)
