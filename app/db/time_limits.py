"""Time limits that the database enforces: of statements, and of sessions of stalled processes.

A process can be stopped, frozen or cut off in the middle of a transaction. Its locks would block
other workers. PostgreSQL ends an idle transaction by itself (idle_in_transaction_session_timeout).
It does not end a session whose driver has prepared a statement (Parse, Describe, Flush) and has not
sent its Bind: that session counts as active, and statement_timeout is suspended while the server
reads from its client. Observed with PostgreSQL 18 and asyncpg 0.32. transaction_timeout exists only
since PostgreSQL 17.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

STALLED_SECONDS = 10.0  # without a message from the client; as long as a transaction may idle
STEPS = 10_000  # of SQLite's virtual machine between two checks of the clock

_TERMINATE = sa.text(
    "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = current_user"
    " AND application_name = current_setting('application_name')"
    " AND state = 'active' AND wait_event = 'ClientRead' AND xact_start IS NOT NULL"
    " AND state_change < clock_timestamp() - make_interval(secs => :seconds)"
)


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


def terminate_stalled_sessions(tx: sa.Connection) -> int:
    """Terminate the gateway's stalled sessions and return their number. PostgreSQL only.

    The process that owns such a session gets DatabaseUnavailable.
    """
    return int(tx.scalar(_TERMINATE, {"seconds": STALLED_SECONDS}) or 0)
