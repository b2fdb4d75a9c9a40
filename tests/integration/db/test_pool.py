"""The pool of PostgreSQL connections replaces lost connections and gets back every other one.

Covers: app.db.postgres
"""

import asyncio
import random
import threading
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from app.db.database import Database
from app.db.migrate import open_database
from tests.integration.db.test_database import add, names

pytestmark = pytest.mark.anyio
POOL = 4
OTHERS = (
    "FROM pg_stat_activity WHERE datname = current_database()"
    " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


@pytest.fixture
async def db(shared_url: str) -> Any:
    async with open_database(shared_url, pool=POOL) as db:
        yield db


async def fill_pool(db: Database) -> None:
    """Open every connection of the pool and return it."""
    together = asyncio.Barrier(POOL)

    async def follow(_: object, __: object) -> None:
        await together.wait()

    await asyncio.gather(*(db.write_then(follow, names) for _ in range(POOL)))


def end_all_sessions(url: str) -> None:
    """Terminate all other sessions, in an event loop of its own, and wait for their end."""

    async def end() -> int:
        connection = await asyncpg.connect(url)
        ended = len(await connection.fetch(f"SELECT pg_terminate_backend(pid) {OTHERS}"))
        while await connection.fetchval(f"SELECT count(*) {OTHERS}"):
            await asyncio.sleep(0.01)
        await connection.close()
        return ended

    assert asyncio.run(end()) >= POOL


async def test_connections_closed_by_the_server_are_replaced(db: Database, shared_url: str) -> None:
    await fill_pool(db)
    await asyncio.to_thread(end_all_sessions, shared_url)
    await asyncio.gather(*(db.write(add, f"p{n}") for n in range(POOL)))
    assert len(await db.read(names)) == POOL


async def test_connections_whose_end_is_not_noticed_yet_are_replaced(
    db: Database, shared_url: str
) -> None:
    """The event loop is blocked meanwhile, so it has not read the sockets' end."""
    await fill_pool(db)
    ending = threading.Thread(target=end_all_sessions, args=(shared_url,))
    ending.start()
    ending.join()
    await asyncio.gather(db.write(add, "p"), db.read(names))
    await asyncio.gather(*(db.read(names) for _ in range(POOL)))
    assert await db.read(names) == ["p"]


async def test_cancelled_transactions_return_their_connections(db: Database) -> None:
    rng = random.Random(7)

    def slow(tx: sa.Connection) -> None:
        add(tx, f"p{rng.random()}")
        tx.execute(sa.text("SELECT pg_sleep(0.01)"))

    for _ in range(12):
        tasks = [asyncio.create_task(db.write(slow)) for _ in range(POOL * 2)]
        tasks += [asyncio.create_task(db.read(names)) for _ in range(POOL)]
        await asyncio.sleep(rng.random() * 0.03)
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert not isinstance(ended, Exception), ended
    async with asyncio.timeout(20):
        await fill_pool(db)
        await db.write(add, "last")
    sessions = sa.text(f"SELECT count(*) {OTHERS}")
    assert (await db.read(lambda tx: tx.scalar(sessions)) or 0) < POOL


async def test_a_read_leaves_its_connection_writable(db: Database) -> None:
    for _ in range(POOL * 2):
        await db.read(names)
        await db.write(add, "p")
    assert await db.read(names) == ["p"]
