"""A time limit for statements, enforced by the database."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

STEPS = 10_000  # of SQLite's virtual machine between two checks of the clock


class StatementTimeoutError(Exception):
    """The database cancelled a statement because of its time limit."""


@contextmanager
def statement_timeout(tx: sa.Connection, seconds: float) -> Iterator[None]:
    """Limit the time of the block on SQLite, and of each of its statements on PostgreSQL.

    Raises StatementTimeoutError.
    """
    deadline = time.monotonic() + seconds
    is_sqlite = tx.dialect.name == "sqlite"
    raw: Any = tx.connection.driver_connection
    try:
        if is_sqlite:
            raw.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
        else:
            # LOCAL: the session's own limit is restored with the end of the transaction.
            tx.execute(sa.text(f"SET LOCAL statement_timeout = {max(1, round(seconds * 1000))}"))
        yield
    except sa.exc.DBAPIError as error:
        if time.monotonic() < deadline:
            raise
        raise StatementTimeoutError(f"not finished after {seconds:g} s") from error
    finally:
        if is_sqlite:
            raw.set_progress_handler(None, 0)
