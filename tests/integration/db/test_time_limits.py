"""Sessions of a process that is stopped inside a transaction, on a real PostgreSQL.

Covers: app.db.time_limits
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.util import await_only

from app.db.database import Database
from app.db.migrate import open_database
from app.db.time_limits import terminate_stalled_sessions
from app.errors import DatabaseUnavailable

pytestmark = pytest.mark.anyio
TIMEOUT_SECONDS = 20
LOCK = "LOCK TABLE part IN ACCESS EXCLUSIVE MODE"


@pytest.fixture
async def session(shared: Database) -> AsyncIterator[Any]:
    """A connection that has locked a table, as a worker does with rows."""
    async with AsyncExitStack() as stack:
        connection = await shared.driver_connection()
        stack.callback(connection.terminate)
        await connection.execute("BEGIN")
        await connection.execute(LOCK)
        yield connection


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.time_limits.STALLED_SECONDS", 0.2)


def lock(tx: sa.Connection) -> None:
    tx.execute(sa.text(f"{LOCK} NOWAIT"))


def lock_once_free(tx: sa.Connection) -> None:
    """Lock the table when the terminated session has ended. Raises after the lock_timeout."""
    tx.execute(sa.text(LOCK))


def sessions(tx: sa.Connection, state: str, wait_event: str) -> int:
    seen = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND state = :state AND wait_event = :wait_event"
        " AND xact_start IS NOT NULL AND clock_timestamp() - state_change > interval '0.3 s'"
    )
    return int(tx.scalar(seen, {"state": state, "wait_event": wait_event}) or 0)


async def until_seen(db: Database, state: str, wait_event: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not await db.read(sessions, state, wait_event):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_session_stalled_before_its_bind_is_terminated_and_its_locks_are_released(
    shared: Database, session: Any
) -> None:
    await session.prepare("SELECT 1 WHERE $1::int > 0")
    await until_seen(shared, "active", "ClientRead")
    with pytest.raises(DatabaseUnavailable):
        await shared.write(lock)

    assert await shared.write(terminate_stalled_sessions) == 1

    await shared.write(lock_once_free)
    assert await shared.write(terminate_stalled_sessions) == 0


async def test_the_owner_of_a_terminated_session_gets_database_unavailable(
    shared: Database, shared_url: str
) -> None:
    """The driver has the answer to its Parse and the news of the end before it looks at either."""

    def work(tx: sa.Connection) -> None:
        lock(tx)
        driver: Any = tx.connection.driver_connection
        await_only(driver.prepare("SELECT 1 WHERE $1::int > 0"))
        await_only(until_seen(shared, "active", "ClientRead"))
        assert await_only(shared.write(terminate_stalled_sessions)) == 1
        tx.execute(sa.text("SELECT 1"))

    async with open_database(shared_url) as other:
        with pytest.raises(DatabaseUnavailable):
            await other.write(work)
        await other.write(lock_once_free)


@pytest.mark.parametrize("is_followed", [False, True])
async def test_a_transaction_that_idled_too_long_gets_database_unavailable(
    shared_url: str, is_followed: bool
) -> None:
    def work(tx: sa.Connection) -> None:
        lock(tx)
        tx.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = '100ms'"))
        if not is_followed:
            time.sleep(0.5)  # blocks the loop, as a process does that was stopped
            tx.execute(sa.text("SELECT 1"))

    async def follow(_: None, connection: Any) -> None:
        if is_followed:
            time.sleep(0.5)  # noqa: ASYNC251 - on purpose
            await connection.execute("SELECT 1")

    async with open_database(shared_url) as other:
        with pytest.raises(DatabaseUnavailable):
            await other.write_then(follow, work)
        await other.write(lock_once_free)


async def test_a_working_session_is_not_terminated(shared: Database, session: Any) -> None:
    working = asyncio.create_task(session.fetchval("SELECT 7 FROM pg_sleep(1)"))
    await until_seen(shared, "active", "PgSleep")

    assert await shared.write(terminate_stalled_sessions) == 0

    assert await working == 7


async def test_a_session_stalled_for_less_time_is_not_terminated(
    shared: Database, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await session.prepare("SELECT 1 WHERE $1::int > 0")
    await until_seen(shared, "active", "ClientRead")
    monkeypatch.setattr("app.db.time_limits.STALLED_SECONDS", 60)

    assert await shared.write(terminate_stalled_sessions) == 0

    assert await session.fetchval("SELECT 7") == 7


async def test_a_session_of_another_application_is_not_terminated(
    shared: Database, session: Any
) -> None:
    await session.execute("SET application_name = 'psql'")
    await session.prepare("SELECT 1 WHERE $1::int > 0")
    await until_seen(shared, "active", "ClientRead")

    assert await shared.write(terminate_stalled_sessions) == 0

    assert await session.fetchval("SELECT 7") == 7
