"""Terminates sessions of stalled processes on PostgreSQL. Their locks would block other workers.

A process can be stopped, frozen or cut off in the middle of a transaction. The server ends an idle
transaction by itself (idle_in_transaction_session_timeout). It does not end a session whose driver
has prepared a statement (Parse, Describe, Flush) and has not sent its Bind: that session counts as
active, and statement_timeout is suspended while the server reads from its client. Observed with
PostgreSQL 18 and asyncpg 0.32. transaction_timeout exists only since PostgreSQL 17.
"""

import sqlalchemy as sa

STALLED_SECONDS = 10.0  # without a message from the client; as long as a transaction may idle

_TERMINATE = sa.text(
    "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = current_user"
    " AND application_name = current_setting('application_name')"
    " AND state = 'active' AND wait_event = 'ClientRead' AND xact_start IS NOT NULL"
    " AND state_change < clock_timestamp() - make_interval(secs => :seconds)"
)


def terminate_stalled_sessions(tx: sa.Connection) -> int:
    """Terminate the gateway's stalled sessions and return their number. PostgreSQL only.

    The process that owns such a session gets DatabaseUnavailable.
    """
    return int(tx.scalar(_TERMINATE, {"seconds": STALLED_SECONDS}) or 0)
