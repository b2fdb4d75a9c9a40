"""The guarantees of `write` and `read` on both databases.

Covers: app.db.connect, app.db.database, app.db.postgres, app.db.sqlite
"""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from app.access.projects import ensure_project
from app.access.tables import project
from app.db.connect import make_database
from app.db.database import Database, DatabaseLockedError
from app.db.migrate import open_database

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 21, tzinfo=UTC)


class StaleLike(Exception):
    """An error of a domain, like StaleRun."""


def add(tx: sa.Connection, name: str) -> str:
    return ensure_project(tx, name, now=NOW)


def add_then_fail(tx: sa.Connection, name: str) -> None:
    add(tx, name)
    raise StaleLike(name)


def names(tx: sa.Connection) -> list[str]:
    return list(tx.scalars(sa.select(project.c.name).order_by(project.c.id)))


@pytest.fixture
async def onlooker(database_url: str, db: Database) -> AsyncIterator[Database]:
    """Another connection to the same database, which reads only committed data."""
    async with open_database(database_url) as other:
        yield other


async def test_write_returns_after_the_commit(db: Database, onlooker: Database) -> None:
    for n in range(20):
        await db.write(add, f"p{n}")
        assert (await onlooker.read(names))[-1] == f"p{n}"


async def test_a_failing_transaction_is_rolled_back_alone_and_its_error_is_raised(
    db: Database, onlooker: Database
) -> None:
    writes = [db.write(add_then_fail if n % 3 == 1 else add, f"p{n}") for n in range(12)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    failed = [n for n, result in enumerate(results) if isinstance(result, StaleLike)]
    assert failed == [1, 4, 7, 10]
    assert sorted(await onlooker.read(names)) == sorted(
        f"p{n}" for n in range(12) if n not in failed
    )


async def test_a_violated_constraint_rolls_back_its_transaction_alone(db: Database) -> None:
    def twice(tx: sa.Connection) -> None:
        for _ in range(2):
            tx.execute(sa.insert(project).values(id="prj_1", name="twice", created_at=NOW))

    kept, broken, also_kept = await asyncio.gather(
        db.write(add, "before"), db.write(twice), db.write(add, "after"), return_exceptions=True
    )
    assert isinstance(broken, sa.exc.IntegrityError)
    assert kept != also_kept
    assert sorted(await db.read(names)) == ["after", "before"]


async def test_sqlite_runs_transactions_in_the_order_of_the_calls(
    db: Database, database_url: str
) -> None:
    if not database_url.startswith("sqlite"):
        pytest.skip("connections of PostgreSQL are independent")
    await asyncio.gather(*(db.write(add, f"p{n:03}") for n in range(300)))
    assert await db.read(names) == [f"p{n:03}" for n in range(300)]


async def test_a_cancelled_write_does_not_affect_other_writes(db: Database) -> None:
    gone = asyncio.create_task(db.write(add, "gone"))
    await asyncio.sleep(0)
    gone.cancel()
    await db.write(add, "there")
    assert "there" in await db.read(names)


async def test_a_read_sees_one_snapshot(db: Database) -> None:
    await db.write(add, "before")
    loop = asyncio.get_running_loop()

    if db.is_shared:
        # The transaction runs in a greenlet of this event loop, so the other write is a task.
        def meanwhile(_tx: sa.Connection) -> None:
            pass

        def look_twice(tx: sa.Connection) -> tuple[list[str], list[str]]:
            first = names(tx)
            tx.execute(sa.select(sa.func.pg_sleep(0.3)))
            return first, names(tx)

        looking = asyncio.create_task(db.read(look_twice))
        await asyncio.sleep(0.1)
        await db.write(add, "meanwhile")
        seen = await looking
    else:

        def look_twice_around_a_write(tx: sa.Connection) -> tuple[list[str], list[str]]:
            first = names(tx)
            asyncio.run_coroutine_threadsafe(db.write(add, "meanwhile"), loop).result(10)
            return first, names(tx)

        seen = await db.read(look_twice_around_a_write)
    assert seen == (["before"], ["before"])
    assert await db.read(names) == ["before", "meanwhile"]


async def test_a_read_cannot_write(db: Database) -> None:
    with contextlib.suppress(sa.exc.DBAPIError):  # PostgreSQL refuses it, SQLite takes it back
        await db.read(add, "by a read")
    assert await db.read(names) == []
    await db.write(add, "by a write")
    assert await db.read(names) == ["by a write"]


async def test_a_failing_read_leaves_its_connection_usable(db: Database) -> None:
    def broken(tx: sa.Connection) -> None:
        tx.execute(sa.text("SELECT * FROM nothing_of_this_name"))

    for _ in range(8):
        with pytest.raises(sa.exc.DBAPIError):
            await db.read(broken)
    assert await db.read(names) == []


async def test_errors_do_not_contain_values(db: Database) -> None:
    await db.write(add, "canary")
    with pytest.raises(sa.exc.IntegrityError) as caught:
        await db.write(
            lambda tx: tx.execute(
                sa.insert(project).values(id="prj_2", name="canary", created_at=NOW)
            )
        )
    assert "canary" not in str(caught.value)


async def test_sqlite_has_the_durable_pragmas(db: Database, database_url: str) -> None:
    if not database_url.startswith("sqlite"):
        pytest.skip("SQLite's pragmas")

    def pragmas(tx: sa.Connection) -> dict[str, object]:
        named = ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        return {name: tx.exec_driver_sql(f"PRAGMA {name}").scalar() for name in named}

    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    assert await db.write(pragmas) == await db.read(pragmas) == expected


HOLD = """
import asyncio, sys
from app.db.connect import make_database
async def hold():
    db = make_database(sys.argv[1], exclusive=True)
    await db.open()
    print("held", flush=True)
    sys.stdin.read()
    await db.close()
asyncio.run(hold())
"""


async def test_a_second_process_gets_database_locked_error_for_the_same_sqlite_file(
    migrated_sqlite: object, tmp_path: object
) -> None:
    url = f"sqlite:///{tmp_path}/gateway.db"
    with subprocess.Popen(  # noqa: ASYNC220 - it is talked to in lines
        [sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        second = make_database(url, exclusive=True)
        with pytest.raises(DatabaseLockedError, match=r"already serves gateway\.db .* PostgreSQL"):
            await second.open()
        async with open_database(url) as beside:  # a short command, which claims nothing
            await beside.write(add, "by the command line")
        first.communicate("")
    async with open_database(url, exclusive=True) as third:
        assert await third.read(names) == ["by the command line"]


async def test_a_locked_database_can_be_closed(tmp_path: object) -> None:
    url = f"sqlite:///{tmp_path}/gateway.db"
    async with open_database(url, exclusive=True):
        with pytest.raises(DatabaseLockedError):
            async with open_database(url, exclusive=True):
                raise AssertionError("nobody gets here")


async def test_the_file_and_its_folder_are_private(tmp_path: object) -> None:
    async with open_database(f"sqlite:///{tmp_path}/new/gateway.db") as db:
        await db.write(add, "p")
    with sqlite3.connect(f"{tmp_path}/new/gateway.db") as plain:
        assert plain.execute("SELECT count(*) FROM project").fetchone() == (1,)
    plain.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://h/db", "must be sqlite:// or postgresql://"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("nonsense", "."),
    ],
)
async def test_make_database_refuses_other_urls(url: str, words: str) -> None:
    with pytest.raises((ValueError, sa.exc.ArgumentError), match=words):
        make_database(url)
