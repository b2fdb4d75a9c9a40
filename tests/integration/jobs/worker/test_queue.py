"""The queue on both backends: entries are taken in order, held, deferred and never lost.

Covers: app.jobs.worker.lane, app.jobs.worker.queue, app.kit.priority_semaphore
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa
from alembic import command

from app.db.connect import make_database
from app.db.database import Database
from app.db.migrate import alembic_config, open_database
from app.jobs.worker import queue as queue_file
from app.jobs.worker.lane import Entry, Lane
from app.jobs.worker.queue import JobQueue
from app.kit.priority_semaphore import PrioritySemaphore

pytestmark = pytest.mark.anyio
TIMEOUT_SECONDS = 60
MAX_IDLE_CALLBACKS = 30  # of the event loop in a second, in which one read of the queue may fall
MAX_CLOSE_SECONDS = 15  # less than the delay of the held entry
NOW, SOON, LATE = timedelta(0), timedelta(milliseconds=50), timedelta(hours=1)


class Works:
    """Records the ticks of jobs. `again` holds the delays that they return, `gate` blocks them."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.again: dict[str, list[timedelta]] = {}
        self.slots = PrioritySemaphore(1)

    async def tick(self, job_id: str) -> timedelta | None:
        await self.slots.acquire()
        try:
            self.begun.append(job_id)
            await self.gate.wait()
            left = self.again.get(job_id)
            return left.pop(0) if left else None
        finally:
            self.slots.release()

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.begun
            await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(db: Database, works: Works, *, does: bool = True) -> AsyncIterator[JobQueue]:
    queue = JobQueue(db, [Lane("jobs", works.tick, works.slots, 100)])
    await queue.open(works=does)
    try:
        yield queue
    finally:
        works.gate.set()
        await queue.close()


@pytest.fixture
def works() -> Works:
    return Works()


async def entries(db: Database) -> list[str]:
    query = "SELECT convert_from(payload, 'UTF8') FROM pgq.pgqueuer ORDER BY id"
    return await db.read(lambda tx: list(tx.scalars(sa.text(query))))


# ── handing out ─────────────────────────────────────────────────────────────────────────────


async def test_each_entry_is_taken_once_in_the_order_of_priority(
    db: Database, works: Works
) -> None:
    works.gate.clear()
    async with serving(db, works) as queue:
        assert await queue.put([Entry("jobs", "first", 0)]) == ["first"]
        await works.until(lambda: works.begun == ["first"])
        same = [Entry("jobs", f"job{n}", 0) for n in range(5)]
        added = await queue.put([*same, Entry("jobs", "urgent", 0, 7)])
        assert added == [*(entry.job_id for entry in same), "urgent"]
        assert await queue.put(same) == []
        works.gate.set()
        await works.until(lambda: len(works.begun) == 7)
    assert works.begun == ["first", "urgent", *(f"job{n}" for n in range(5))]


async def test_another_epoch_is_another_entry(db: Database, works: Works) -> None:
    works.gate.clear()
    async with serving(db, works) as queue:
        await queue.put([Entry("jobs", "a", 0)])
        await works.until(lambda: works.begun == ["a"])
        assert await queue.put([Entry("jobs", "a", 1)]) == ["a"]
        works.gate.set()
        await works.until(lambda: works.begun == ["a", "a"])


async def test_a_short_delay_is_held_and_a_long_one_is_enqueued(db: Database, works: Works) -> None:
    works.again = {"short": [SOON, SOON], "long": [LATE]}
    async with serving(db, works) as queue:
        await queue.put([Entry("jobs", name, 0) for name in works.again])
        await works.until(lambda: works.begun.count("short") == 3)
        await works.until(lambda: "long" in works.begun)
        await queue.put(
            [Entry("jobs", "delayed", 0, delay=SOON), Entry("jobs", "never", 0, 0, LATE)]
        )
        await works.until(lambda: "delayed" in works.begun)
        assert await queue.put([Entry("jobs", "long", 0)]) == []
    assert works.begun.count("long") == 1
    assert "never" not in works.begun


async def test_prune_deletes_the_log_of_the_queue(db: Database, works: Works) -> None:
    async with serving(db, works) as queue:
        await queue.put([Entry("jobs", f"job{n}", 0) for n in range(9)])
        await works.until(lambda: len(works.begun) == 9)
        if db.is_shared:
            await asyncio.sleep(0.2)
            age = "UPDATE pgq.pgqueuer_log SET created = created - interval '1 hour'"
            await db.write(lambda tx: tx.execute(sa.text(age)))
            count = sa.text("SELECT count(*) FROM pgq.pgqueuer_log")
            assert await db.read(lambda tx: tx.scalar(count))
            await queue.prune()
            assert not await db.read(lambda tx: tx.scalar(count))
        else:
            assert queue._memory is not None
            assert queue._memory._log
            await queue.prune()
            assert queue._memory._log == []


async def test_held_entries_are_enqueued_when_the_queue_closes(db: Database, works: Works) -> None:
    works.again = {"waiting": [timedelta(seconds=20)]}
    began = time.monotonic()
    async with serving(db, works) as queue:
        await queue.put([Entry("jobs", "waiting", 0)])
        await works.until(lambda: works.begun == ["waiting"])
        await asyncio.sleep(0.05)
    assert time.monotonic() - began < MAX_CLOSE_SECONDS
    if db.is_shared:
        assert await entries(db) == ["waiting"]
    else:
        assert queue._memory is not None
        assert [row["status"] for row in queue._memory._jobs.values()] == ["queued"]


async def test_an_idle_queue_needs_no_processor_time(
    db: Database, works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    callbacks = 0
    run = asyncio.Handle._run

    def counted(handle: asyncio.Handle) -> None:
        nonlocal callbacks
        callbacks += 1
        run(handle)

    async with serving(db, works) as queue:
        await queue.put([Entry("jobs", "first", 0)])
        await works.until(lambda: works.begun == ["first"])
        await asyncio.sleep(0.3)
        monkeypatch.setattr(asyncio.Handle, "_run", counted)
        await asyncio.sleep(1)
        assert callbacks < MAX_IDLE_CALLBACKS


# ── on PostgreSQL ───────────────────────────────────────────────────────────────────────────


async def test_a_row_and_its_entry_are_committed_together_or_not_at_all(
    shared: Database, works: Works
) -> None:
    async with serving(shared, works, does=False) as queue:
        await shared.write(lambda tx: tx.execute(sa.text("CREATE TABLE one (id int)")))
        count = sa.text("SELECT count(*) FROM one")

        def add(tx: sa.Connection) -> int:
            tx.execute(sa.text("INSERT INTO one VALUES (1)"))
            return 1

        async def follow(_result: int, connection: object) -> None:
            await queue.put([Entry("jobs", "together", 0)], connection)

        async def break_off(result: int, connection: object) -> None:
            await follow(result, connection)
            raise ValueError("made up")

        with pytest.raises(ValueError, match="made up"):
            await shared.write_then(break_off, add)
        assert await entries(shared) == []
        assert await shared.read(lambda tx: tx.scalar(count)) == 0
        assert await shared.write_then(follow, add) == 1
        assert await entries(shared) == ["together"]
        assert await shared.read(lambda tx: tx.scalar(count)) == 1


async def test_migrations_ignore_the_tables_of_the_queue(shared: Database, works: Works) -> None:
    async with serving(shared, works):
        await shared.write(lambda tx: command.check(alembic_config(tx)))
    tables = sa.text("SELECT table_name FROM information_schema.tables WHERE table_schema = 'pgq'")
    assert "pgqueuer" in await shared.read(lambda tx: set(tx.scalars(tables)))


async def test_processes_that_start_together_install_the_tables_once(shared_url: str) -> None:
    async def start() -> None:
        async with open_database(shared_url) as db:
            works = Works()
            async with serving(db, works, does=False) as queue:
                await queue.put([Entry("jobs", "a", 0)])

    await asyncio.gather(*(start() for _ in range(4)))
    async with open_database(shared_url) as db:
        assert await entries(db) == ["a"]


def test_the_environment_does_not_rename_its_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGQUEUER_PREFIX", "PGQUEUER_SCHEMA", "PGQUEUER_QUEUE_TABLE", "QUEUE_TABLE"):
        monkeypatch.setenv(name, "other")
    assert queue_file._Names(db_schema="pgq").qualified.queue_table == "pgq.pgqueuer"


async def drop_connections(url: str) -> None:
    other = make_database(url)
    await other.open()
    others = "FROM pg_stat_activity WHERE datname = current_database()"
    statement = f"SELECT pg_terminate_backend(pid) {others} AND pid <> pg_backend_pid()"
    await other.write(lambda tx: tx.execute(sa.text(statement)))
    await other.close()


async def test_the_queue_reconnects_after_a_lost_connection(
    shared: Database, shared_url: str, works: Works
) -> None:
    works.slots = PrioritySemaphore(2)
    works.gate.clear()
    async with serving(shared, works) as queue:
        await queue.put([Entry("jobs", "long", 0)])
        await works.until(lambda: works.begun == ["long"])
        await drop_connections(shared_url)
        await queue.put([Entry("jobs", "after", 0)])
        began = time.monotonic()
        await works.until(lambda: "after" in works.begun)  # while the other one still runs
        assert time.monotonic() - began < TIMEOUT_SECONDS
        assert not works.gate.is_set()


async def test_entries_of_a_dead_worker_are_taken_over(
    shared: Database, works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_file, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(queue_file, "POLL_SECONDS", 0.2)
    async with serving(shared, works, does=False) as queue:
        await queue.put([Entry("jobs", "orphan", 0)])
        dead = (
            "UPDATE pgq.pgqueuer SET status = 'picked', queue_manager_id = gen_random_uuid(), "
            "heartbeat = now()"
        )
        await shared.write(lambda tx: tx.execute(sa.text(dead)))
    async with serving(shared, works):
        await works.until(lambda: works.begun == ["orphan"])
