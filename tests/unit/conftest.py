"""Tests in this folder run without a database and without a network.

A test fails if it opens an Internet socket or a SQLite file, or asks for a database fixture.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent


class DatabaseOpenedError(RuntimeError):
    """A unit test opened a database."""


class _Guard:
    """An audit hook that is active during a test, because a hook cannot be removed."""

    is_on = False

    def __call__(self, event: str, _arguments: tuple[Any, ...]) -> None:
        if self.is_on and event == "sqlite3.connect":
            raise DatabaseOpenedError


_guard = _Guard()
sys.addaudithook(_guard)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.disable_socket)


@pytest.fixture(autouse=True)
def _no_database() -> Iterator[None]:
    _guard.is_on = True
    yield
    _guard.is_on = False


@pytest.fixture(scope="session")
def postgres() -> None:
    """Replace the fixture that starts a PostgreSQL server."""
    pytest.fail("a test of a database belongs into tests/integration")


@pytest.fixture
def database_url() -> None:
    """Replace the fixture behind `db` and `gateway`."""
    pytest.fail("a test of a database belongs into tests/integration")
