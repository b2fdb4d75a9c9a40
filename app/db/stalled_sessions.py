"""Ends PostgreSQL sessions of stalled processes: their locks would block other processes.

A stopped, frozen or vanished process may be in the middle of a transaction. The server ends one
that idles by itself (idle_in_transaction_session_timeout), but not where the driver had a
statement prepared (Parse, Describe, Flush) and has not sent its Bind: that session counts as
active, and statement_timeout holds off while it reads from its client. Seen on PostgreSQL 18 and
asyncpg 0.32; transaction_timeout is only there since PostgreSQL 17.
"""

import sqlalchemy as sa

STALLED_SECONDS = 10.0  # without a message from the client; as long as a transaction may idle

_END = sa.text(
    "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = current_user"
    " AND application_name = current_setting('application_name')"
    " AND state = 'active' AND wait_event = 'ClientRead' AND xact_start IS NOT NULL"
    " AND state_change < clock_timestamp() - make_interval(secs => :seconds)"
)


def end_stalled(tx: sa.Connection) -> int:
    """End our sessions in which the server waits for a stalled client. Return their number.

    The process of such a session gets DatabaseUnavailable. Only for PostgreSQL.
    """
    return int(tx.scalar(_END, {"seconds": STALLED_SECONDS}) or 0)
