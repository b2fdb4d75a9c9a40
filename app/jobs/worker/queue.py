"""The queue of jobs, and the only file that knows PgQueuer.

There are two backends with one behaviour: in memory where this process has the database for itself,
and in a schema of its own on PostgreSQL, where any worker may claim any job. An entry only requests
that a job is advanced: the `transcription` table is authoritative, and an entry that is lost,
doubled or late does no harm (maintenance requeues such jobs; see runs.claim).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.adapters.inmemory import InMemoryDriver, InMemoryQueries
from pgqueuer.adapters.persistence import qb
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Job as Picked
from pgqueuer.domain.settings import DBSettings, Durability
from pydantic_settings import PydanticBaseSettingsSource

from app.db.database import Database
from app.jobs.worker.lane import Entry, Lane, NoSlot
from app.kit.log import log, safe_traceback

SCHEMA = "pgq"  # never in the search path, so Alembic does not see it
HOLD_SECONDS = 10.0  # waits shorter than this are held here as one coroutine
HOLD_MAX_SECONDS = 120.0  # after which a job that waits repeatedly goes back to the queue
BATCH = 10
POLL_SECONDS = 5.0  # between reads of the queue without a notification of a change
SILENT_SECONDS = 30.0  # without a heartbeat before another worker takes an entry
PAUSE_SECONDS = 2.0  # before the queue is reconnected
CONNECTIONS = 4  # of each worker: one listens
CLOSE_SECONDS = 5.0
KEPT_LOG = "10 minutes"


class _Names(DBSettings):
    """PgQueuer's names as they are here: its environment variables change nothing."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[Any],  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        *_others: PydanticBaseSettingsSource,
        **_more: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


_NAMES = _Names(db_schema=SCHEMA, channel="asr_gateway_jobs", durability=Durability.balanced)
_BUILDERS: dict[str, Any] = {
    "qbe": qb.QueryBuilderEnvironment(_NAMES),
    "qbq": qb.QueryQueueBuilder(_NAMES),
    "qbs": qb.QuerySchedulerBuilder(_NAMES),
}
_PRUNE = sa.text(
    f"DELETE FROM {_NAMES.qualified.queue_table_log} "  # noqa: S608 - names of ours
    f"WHERE created < now() - interval '{KEPT_LOG}'"
)
_CAPACITY_EVENT = (
    f'{{"channel":"{_NAMES.channel}","operation":"update","sent_at":"2026-01-01T00:00:00Z",'
    f'"table":"{_NAMES.queue_table}","type":"table_changed_event"}}'
)


class _BackpressureQueries:
    """A lane's view of the queries: it takes no entry that could not start now."""

    def __init__(self, queries: Any, lane: Lane, fail: Callable[[], None]) -> None:
        self._queries = queries
        self._lane = lane
        self._fail = fail

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queries, name)

    async def dequeue(self, batch_size: int, *args: Any, **kwargs: Any) -> list[Picked]:
        lane = self._lane
        asked = min(batch_size, lane.room)
        if asked <= 0:
            lane.is_backlogged = True
            return []
        try:
            kwargs["batch_size"] = asked
            picked: list[Picked] = await self._queries.dequeue(*args, **kwargs)
        except BaseException:
            lane.is_backlogged = False
            self._fail()  # PgQueuer now waits for all that runs; that may take hours
            raise
        lane.is_backlogged = len(picked) == asked
        lane.arrive([one.id for one in picked])
        return picked

    async def eligible_queued_work(self, entrypoints: Any) -> int:
        """Count the entries that could be taken; 0 without room, which prevents a busy loop."""
        return await self._queries.eligible_queued_work(entrypoints) if self._lane.room > 0 else 0

    async def queued_work(self, entrypoints: Any) -> int:
        return await self._queries.queued_work(entrypoints) if self._lane.room > 0 else 0


class _LocalNotify:
    """Mixin of a driver that can wake only the listeners of its own process."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.callbacks: list[Callable[[str], None]] = []

    async def add_listener(self, channel: str, callback: Callable[[Any], None]) -> None:
        self.callbacks.append(callback)
        await super().add_listener(channel, callback)  # type: ignore[misc]


class _MemoryDriver(_LocalNotify, InMemoryDriver): ...


class _PostgresDriver(_LocalNotify, AsyncpgPoolDriver): ...


class Queue:
    """Gives the jobs of its lanes to the workers that have room for them."""

    def __init__(self, db: Database, lanes: Sequence[Lane]) -> None:
        self._db = db
        self._lanes = lanes
        self._here = None if db.is_shared else InMemoryQueries(_MemoryDriver(), **_BUILDERS)
        self._callbacks: list[Callable[[str], None]] = []
        self._managers: list[QueueManager] = []
        self._closing = asyncio.Event()
        self._leaving = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    async def open(self, *, works: bool) -> None:
        """Create or migrate the schema; where this process `works`, take entries from now on.

        Raises DatabaseUnavailable.
        """
        if self._db.is_shared:
            await _migrate_queue(self._db)
        if works:
            self._serving = asyncio.create_task(self._serve(), name="queue")

    async def put(self, entries: Sequence[Entry], connection: Any = None) -> int:
        """Add jobs that are not in the queue yet; return the number of jobs added.

        On a shared database with the `connection` of a transaction they are added with its commit.
        Raises DatabaseUnavailable.
        """
        if not entries:
            return 0
        if self._here is not None:
            return await _put(self._here, entries)
        if connection is not None:
            return await _put(Queries(AsyncpgDriver(connection), **_BUILDERS), entries)
        added = 0

        async def follow(_: None, fresh: Any) -> None:
            nonlocal added
            added = await self.put(entries, fresh)

        await self._db.write_then(follow, _nothing)
        return added

    def wake(self) -> None:
        """Read the queue again: there may be room now."""
        if any(lane.is_backlogged for lane in self._lanes):
            for callback in self._callbacks:
                callback(_CAPACITY_EVENT)

    async def tidy(self) -> None:
        """Delete the queue's own log, which is not used. Raises DatabaseUnavailable."""
        if self._here is None:
            await self._db.write(_prune)
        else:
            await self._here.clear_queue_log()
            await self._here.clear_statistics_log()

    def stop_taking(self) -> None:
        """Take no more entries; jobs that wait for their next tick are requeued at once."""
        self._closing.set()
        self._leave()

    def _leave(self) -> None:
        self._leaving.set()
        for manager in self._managers:
            manager.shutdown.set()

    async def close(self) -> None:
        """Leave the queue; all ticks must have ended, or be about to."""
        self.stop_taking()
        if self._serving is not None:
            await asyncio.wait({self._serving}, timeout=CLOSE_SECONDS)
            self._serving.cancel()
            with suppress(asyncio.CancelledError):
                await self._serving

    async def _serve(self) -> None:
        """Work on the queue, and reconnect when PostgreSQL restarts."""
        while not self._closing.is_set():
            try:
                async with self._queries() as queries:
                    await self._work(queries)
            except Exception as error:  # noqa: BLE001 - jobs must continue after any error
                log.warning("queue.connection_lost", frames=safe_traceback(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), PAUSE_SECONDS)

    @asynccontextmanager
    async def _queries(self) -> Any:
        """Lend queries with a driver that has no listeners yet."""
        if self._here is not None:
            self._here.driver = driver = _MemoryDriver()
            self._callbacks = driver.callbacks
            yield self._here
            return
        pool = await self._db.driver_pool(CONNECTIONS)
        try:
            shared = _PostgresDriver(pool)
            self._callbacks = shared.callbacks
            yield Queries(shared, **_BUILDERS)
        finally:
            pool.terminate()

    async def _work(self, queries: Any) -> None:
        broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def fail() -> None:
            if not broken.done():
                broken.set_result(None)
            self._leave()

        self._leaving.clear()
        managers = [self._manager(queries, lane, fail, broken) for lane in self._lanes]
        self._managers = managers
        if self._closing.is_set():
            return
        watching = asyncio.create_task(self._watch(managers, fail))
        running = [
            manager.run(
                batch_size=BATCH,
                dequeue_timeout=timedelta(seconds=POLL_SECONDS),
                heartbeat_timeout=timedelta(seconds=SILENT_SECONDS),
                log_aggregation_interval=timedelta(0),
                shutdown_on_listener_failure=True,
            )
            for manager in managers
        ]
        ends = asyncio.gather(*(self._run(one, fail) for one in running), return_exceptions=True)
        try:
            ended = await ends
        finally:
            watching.cancel()
        for end in ended:
            if isinstance(end, Exception):
                raise end

    async def _run(self, running: Awaitable[None], fail: Callable[[], None]) -> None:
        try:
            await running
        finally:
            if not self._closing.is_set():
                fail()  # lanes end together: they share a driver

    async def _watch(self, managers: Sequence[QueueManager], fail: Callable[[], None]) -> None:
        """Release running jobs as soon as PgQueuer gives up, not when all have ended."""
        stops = [asyncio.create_task(manager.shutdown.wait()) for manager in managers]
        try:
            await asyncio.wait(stops, return_when=asyncio.FIRST_COMPLETED)
            if not self._closing.is_set():
                fail()
        finally:
            for stop in stops:
                stop.cancel()

    def _manager(
        self, queries: Any, lane: Lane, fail: Callable[[], None], broken: "asyncio.Future[None]"
    ) -> QueueManager:
        gate: Any = _BackpressureQueries(queries, lane, fail)
        manager = QueueManager(gate, _NAMES.channel)

        @manager.entrypoint(lane.name)
        async def handle(picked: Picked) -> None:
            lane.arriving.pop(picked.id, None)
            lane.here.add(picked.id)
            try:
                await self._handle(lane, picked, broken)
            finally:
                lane.here.discard(picked.id)

        return manager

    async def _handle(self, lane: Lane, picked: Picked, broken: "asyncio.Future[None]") -> None:
        """Advance a job until it ends.

        Raises RetryRequested where it has to wait for long, or for a slot: more urgent jobs may
        have come meanwhile.
        """
        job_id = (picked.payload or b"").decode()
        until = time.monotonic() + HOLD_MAX_SECONDS
        while (again := await _advanced(lane, job_id, broken)) is not None:
            seconds = again.total_seconds()
            is_short = seconds < HOLD_SECONDS and time.monotonic() < until
            if not is_short or await self._leaves_within(seconds):
                raise RetryRequested(delay=again, reason="it waits")

    async def _leaves_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # `wait_for` takes a task for each, until 3.12
                await self._leaving.wait()
        return self._leaving.is_set()


async def _advanced(lane: Lane, job_id: str, broken: "asyncio.Future[None]") -> timedelta | None:
    try:
        return await lane.tick(job_id, broken)
    except NoSlot as error:
        lane.is_backlogged = True
        raise RetryRequested(delay=timedelta(0), reason="no slot") from error


async def _put(queries: Any, entries: Sequence[Entry]) -> int:
    ids = await queries.enqueue(
        [entry.lane for entry in entries],
        [entry.job_id.encode() for entry in entries],
        [entry.priority for entry in entries],
        [entry.delay for entry in entries],
        [f"{entry.job_id}:{entry.epoch}" for entry in entries],
        on_conflict="skip",
    )
    return sum(id_ is not None for id_ in ids)


async def _migrate_queue(db: Database) -> None:
    """Migrate PgQueuer's own tables to the installed version; replicas take turns."""
    pool = await db.driver_pool(1)
    try:
        async with pool.acquire() as connection:
            queries = Queries(AsyncpgDriver(connection), **_BUILDERS)
            async with queries.schema_lock():
                if await queries.schema_is_installed():
                    await queries.upgrade()
                else:
                    await queries.install()
    finally:
        pool.terminate()


def _prune(tx: sa.Connection) -> None:
    tx.execute(_PRUNE)


def _nothing(_tx: sa.Connection) -> None:
    """Nothing else is written in this transaction."""
