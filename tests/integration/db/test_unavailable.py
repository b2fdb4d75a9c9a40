"""A failing database is one error for every caller, and it works again afterwards.

Covers: app.db.shared_settings
"""

import asyncio

import pytest
import sqlalchemy as sa

from app.access.tables import project
from app.db.database import Database
from app.db.shared_settings import match_or_store
from app.errors import DatabaseUnavailable
from tests.integration.db.test_database import add, names

pytestmark = pytest.mark.anyio
FULL_AT_PAGES = 1  # SQLite takes the present size instead: not one page more


def hurt(tx: sa.Connection) -> None:
    """Make the database fail inside a transaction, like a full disk or a restart."""
    if tx.dialect.name == "sqlite":
        tx.exec_driver_sql(f"PRAGMA max_page_count={FULL_AT_PAGES}")
        for n in range(1000):
            add(tx, f"lost {n} " + "x" * 80)
    else:
        add(tx, "lost")
        tx.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))


def mend(tx: sa.Connection) -> None:
    if tx.dialect.name == "sqlite":
        tx.exec_driver_sql("PRAGMA max_page_count=1000000")


async def test_a_failure_of_the_database_raises_database_unavailable(db: Database) -> None:
    await db.write(add, "before")
    with pytest.raises(DatabaseUnavailable):
        await db.write(hurt)
    await db.write(mend)
    await db.write(add, "after")
    assert sorted(await db.read(names)) == ["after", "before"]


async def test_concurrent_writes_are_committed_or_their_callers_get_an_error(db: Database) -> None:
    writes = [db.write(add, f"p{n}") for n in range(6)]
    results = await asyncio.gather(*writes[:3], db.write(hurt), *writes[3:], return_exceptions=True)
    assert isinstance(results.pop(3), DatabaseUnavailable)
    await db.write(mend)
    told = [isinstance(result, BaseException) for result in results]
    assert all(isinstance(r, str | DatabaseUnavailable) for r in results), results
    kept = await db.read(names)
    assert [f"p{n}" not in kept for n in range(6)] == told


async def test_an_error_of_a_statement_is_not_database_unavailable(db: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError):
        await db.write(lambda tx: tx.execute(sa.text("SELECT nothing FROM nowhere")))
    with pytest.raises(sa.exc.IntegrityError):
        await db.write(lambda tx: tx.execute(sa.insert(project).values(id="prj_1")))


async def test_match_or_store_stores_the_first_value(db: Database) -> None:
    assert await db.write(match_or_store, "store", ["one"])
    assert not await db.write(match_or_store, "store", ["two"])
    assert await db.write(match_or_store, "other", ["two"])
    assert await db.write(match_or_store, "store", ["new", "one"])
    assert not await db.write(match_or_store, "store", ["one"])
    assert await db.write(match_or_store, "store", ["new"])


async def test_of_concurrent_match_or_store_one_is_stored(db: Database) -> None:
    said = await asyncio.gather(*(db.write(match_or_store, "store", [str(n)]) for n in range(8)))
    assert said.count(True) == 1
