"""A timeout for statements, enforced by the database itself."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

STEPS = 10_000  # of SQLite's virtual machine, between two checks of the clock


class StatementTimeoutError(Exception):
    """The database cancelled a statement after its timeout."""


@contextmanager
def statement_timeout(tx: sa.Connection, seconds: float) -> Iterator[None]:
    """Limit the time of the block (PostgreSQL: of each statement). Raises StatementTimeoutError."""
    until = time.monotonic() + seconds
    try:
        with _told(tx, until, seconds):
            yield
    except sa.exc.DBAPIError as error:
        if time.monotonic() < until:
            raise
        raise StatementTimeoutError(f"not finished after {seconds:g} s") from error


@contextmanager
def _told(tx: sa.Connection, until: float, seconds: float) -> Iterator[None]:
    if tx.dialect.name == "postgresql":
        # Local to the transaction: with it the session's own bound comes back.
        tx.execute(sa.text(f"SET LOCAL statement_timeout = {max(1, round(seconds * 1000))}"))
        yield
        return
    raw: Any = tx.connection.driver_connection
    raw.set_progress_handler(lambda: time.monotonic() > until, STEPS)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)
