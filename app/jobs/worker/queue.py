"""The queue of jobs, and the only file that knows PgQueuer.

PgQueuer stores the entries: in memory where this process has the database for itself, and in a
schema of its own on PostgreSQL, where any worker may take any entry. An entry only requests that a
job is advanced: the `transcription` table is authoritative, and an entry that is lost, doubled or
late does no harm (maintenance requeues such jobs; see runs.claim).
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.inmemory import InMemoryDriver, InMemoryQueries
from pgqueuer.adapters.persistence import qb
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.domain.models import Job as Picked
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.domain.types import QueueEntrypoint, QueueManagerId
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pydantic_settings import PydanticBaseSettingsSource

from app.db.database import Database
from app.jobs.worker.lane import Entry, Lane, NoSlot
from app.kit.log import log, safe_traceback

SCHEMA = "pgq"  # never in the search path, so Alembic does not see it
MAX_HELD_DELAY_SECONDS = 10.0  # a job with a shorter delay is held here as one coroutine
MAX_HELD_SECONDS = 120.0  # after which a job that is deferred repeatedly goes back to the queue
BATCH = 10
POLL_SECONDS = 5.0  # between reads of the queue without a notification of a change
HEARTBEAT_SECONDS = 10.0
SILENT_SECONDS = 30.0  # without a heartbeat before another worker takes an entry
RECONNECT_SECONDS = 2.0
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
_UNLIMITED = EntrypointExecutionParameter(concurrency_limit=0)


class JobQueue:
    """Gives the entries of its lanes to the workers that can start them at once."""

    def __init__(self, db: Database, lanes: Sequence[Lane]) -> None:
        self._db = db
        self._lanes = lanes
        self._id = QueueManagerId(uuid.uuid4())
        self._memory = None if db.is_shared else InMemoryQueries(InMemoryDriver(), **_BUILDERS)
        self._woken = asyncio.Event()
        self._is_changed = True  # there may be entries that were not read yet
        self._ended: list[Picked] = []
        self._deferred: list[tuple[Picked, timedelta]] = []
        self._closing = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    async def open(self, *, works: bool) -> None:
        """Create or migrate the schema; where this process `works`, take entries from now on.

        Raises DatabaseUnavailable.
        """
        if self._db.is_shared:
            async with self._connected() as queries, queries.schema_lock():
                if await queries.schema_is_installed():
                    await queries.upgrade()
                else:
                    await queries.install()
        if works:
            self._serving = asyncio.create_task(self._serve(), name="queue")

    async def put(self, entries: Sequence[Entry], connection: Any = None) -> list[str]:
        """Add jobs that are not in the queue yet; return the ids of the jobs added.

        On a shared database with the `connection` of a transaction they are added with its commit.
        Raises DatabaseUnavailable.
        """
        if not entries:
            return []
        added: list[str] = []

        async def enqueue(_: None, connection: Any) -> None:
            nonlocal added
            ids = await (self._memory or _queries_over(connection)).enqueue(
                [entry.lane for entry in entries],
                [entry.job_id.encode() for entry in entries],
                [entry.priority for entry in entries],
                [entry.delay for entry in entries],
                [f"{entry.job_id}:{entry.epoch}" for entry in entries],
                on_conflict="skip",
            )
            added = [
                entry.job_id
                for entry, entry_id in zip(entries, ids, strict=True)
                if entry_id is not None
            ]

        if self._memory is None and connection is None:
            await self._db.write_then(enqueue, lambda _tx: None)
        else:
            await enqueue(None, connection)
        return added

    def wake(self) -> None:
        """Take entries of backlogged lanes: there may be a free slot now."""
        self._woken.set()

    async def prune(self) -> None:
        """Delete the queue's own log, which is not used. Raises DatabaseUnavailable."""
        if self._memory is None:
            await self._db.write(prune_log)
        else:
            await self._memory.clear_queue_log()

    def stop_taking(self) -> None:
        """Take no more entries; jobs that wait for their next tick are requeued at once."""
        self._closing.set()
        self._woken.set()

    async def close(self) -> None:
        """Leave the queue; all ticks must have ended, or be about to."""
        self.stop_taking()
        if self._serving is not None:
            await asyncio.wait({self._serving}, timeout=CLOSE_SECONDS)
            left = {self._serving, *(task for lane in self._lanes for task in lane.held.values())}
            for task in left:
                task.cancel()
            await asyncio.wait(left)

    async def _serve(self) -> None:
        """Work on the queue until it closes, and reconnect when PostgreSQL restarts.

        Jobs run on meanwhile; their entries are updated over the next connection.
        """
        while True:
            try:
                async with self._connected() as queries:
                    await queries.driver.add_listener(_NAMES.channel, self._on_change)
                    self._is_changed = True
                    await self._work(queries)
            except Exception as error:  # noqa: BLE001 - jobs must continue after any error
                log.warning("queue.connection_lost", frames=safe_traceback(error))
            if await self._closes_within(RECONNECT_SECONDS):
                return

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        if self._memory is not None:
            yield self._memory
            return
        connection = await self._db.driver_connection()
        try:
            yield _queries_over(connection)
        finally:
            connection.terminate()

    async def _work(self, queries: Any) -> None:
        """Delete entries that ended, requeue deferred ones, take others, and send heartbeats.

        Returns once the queue closes and no entry is held.
        """
        clock = asyncio.get_running_loop().time
        read_at = heartbeat_at = 0.0
        while True:
            self._woken.clear()
            if ended := self._ended[:]:
                await queries.log_jobs([(picked, "successful", None) for picked in ended])
                del self._ended[: len(ended)]
            while self._deferred:
                await queries.retry_job(*self._deferred[0], None)
                del self._deferred[0]
            held = [entry for lane in self._lanes for entry in lane.held]
            if self._closing.is_set():
                if not (held or self._ended or self._deferred):
                    return
                read_at = float("inf")
            elif self._is_changed or clock() >= read_at:
                self._is_changed = False
                # Read before the entries: an entry that is due in between is taken, not overlooked.
                due = await queries.next_deferred_eta([lane.name for lane in self._lanes])
                read_at = clock() + min(POLL_SECONDS, due.total_seconds() if due else POLL_SECONDS)
                await self._take(queries, self._lanes)
            else:
                await self._take(queries, (lane for lane in self._lanes if lane.is_backlogged))
            if clock() >= heartbeat_at:
                heartbeat_at = clock() + HEARTBEAT_SECONDS
                if held:
                    await queries.update_heartbeat(held)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(read_at, heartbeat_at) - clock()):
                    await self._woken.wait()

    async def _take(self, queries: Any, lanes: Iterable[Lane]) -> None:
        """Take the entries of these lanes that can be started now."""
        for lane in lanes:
            while (asked := min(BATCH, lane.capacity)) > 0:
                picked = await queries.dequeue(
                    batch_size=asked,
                    entrypoints={QueueEntrypoint(lane.name): _UNLIMITED},
                    queue_manager_id=self._id,
                    global_concurrency_limit=None,
                    heartbeat_timeout=timedelta(seconds=SILENT_SECONDS),
                )
                for one in picked:
                    if one.id not in lane.held:  # held already after a late heartbeat
                        lane.held[one.id] = asyncio.create_task(self._handle(lane, one))
                await asyncio.sleep(0)  # the handlers take their slots
                lane.is_backlogged = len(picked) == asked
                if not lane.is_backlogged:
                    break
            else:
                lane.is_backlogged = True

    async def _handle(self, lane: Lane, picked: Picked) -> None:
        """Advance a job until it ends, is deferred for long, or finds no slot."""
        job_id = (picked.payload or b"").decode()
        until = time.monotonic() + MAX_HELD_SECONDS
        delay: timedelta | None = None
        try:
            while (delay := await lane.tick(job_id)) is not None:
                seconds = delay.total_seconds()
                is_short = seconds < MAX_HELD_DELAY_SECONDS and time.monotonic() < until
                if not is_short or await self._closes_within(seconds):
                    break
        except NoSlot:
            lane.is_backlogged = True  # more urgent jobs may have come, or another worker is free
            delay = timedelta(0)
        except Exception as error:  # noqa: BLE001 - maintenance puts the job back
            log.error("queue.tick_failed", job=job_id, frames=safe_traceback(error))
        del lane.held[picked.id]
        if delay is None:
            self._ended.append(picked)
        else:
            self._deferred.append((picked, delay))
            self._is_changed |= delay.total_seconds() < POLL_SECONDS
        self._woken.set()

    async def _closes_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # `wait_for` takes a task for each, until 3.12
                await self._closing.wait()
        return self._closing.is_set()

    def _on_change(self, event: str | bytes | bytearray) -> None:
        """Read the queue again, unless entries were only removed from it."""
        if '"delete"' not in str(event):
            self._is_changed = True
            self._woken.set()


def prune_log(tx: sa.Connection) -> None:
    """Delete the older entries of PgQueuer's log."""
    tx.execute(_PRUNE)


def _queries_over(connection: Any) -> Queries:
    return Queries(AsyncpgDriver(connection), **_BUILDERS)
