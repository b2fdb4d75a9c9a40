"""SQLite, as fast as it is durable: one writer thread whose works share a COMMIT.

WAL with `synchronous=FULL` because money is recorded; `BEGIN IMMEDIATE` because a deferred
transaction that reads before it writes fails under load however long its busy timeout.
Each work runs in a SAVEPOINT, in the order it was asked for, so one that fails undoes only
itself; futures resolve after the COMMIT they share.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from app.db import json_columns
from app.db.database import AfterWrite, Transaction
from app.db.locks import FileLock
from app.errors import DatabaseUnavailable

P = ParamSpec("P")
T = TypeVar("T")

BUSY_MILLIS = 5_000
JOURNAL_LIMIT_BYTES = 64 << 20
MOST_WORKS_A_COMMIT = 256

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "secure_delete=ON",
    "temp_store=MEMORY",
    f"busy_timeout={BUSY_MILLIS}",
    f"journal_size_limit={JOURNAL_LIMIT_BYTES}",
)


@dataclass(slots=True)
class _Asked:
    work: Callable[[sa.Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def resolve(self) -> None:
        """Resolve the future, in its event loop, unless the caller was cancelled."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(_judged(self.error))


def _answer(batch: list[_Asked]) -> None:
    """Resolve all futures of a commit with one call into each event loop."""
    for loop in {asked.loop for asked in batch}:
        futures = [asked for asked in batch if asked.loop is loop]
        with contextlib.suppress(RuntimeError):  # the loop is closed: no caller waits
            loop.call_soon_threadsafe(_resolve, futures)


def _resolve(batch: list[_Asked]) -> None:
    for asked in batch:
        asked.resolve()


# Failures outside of the work, perhaps temporary: no memory, read-only, I/O error, full, cannot
# open, busy.
_AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)
_PRIMARY_CODE = 0xFF  # an extended code carries its primary one in the lowest byte


def _judged(error: BaseException) -> BaseException:
    """Return DatabaseUnavailable for a failure of the database itself, else the error unchanged."""
    cause = getattr(error, "orig", error)
    if getattr(cause, "sqlite_errorcode", 0) & _PRIMARY_CODE not in _AWAY:
        return error
    away = DatabaseUnavailable(log=str(cause))
    away.__cause__ = error
    return away


class SqliteDatabase:
    """A SQLite file; `exclusive` claims it for this process until `close`."""

    is_shared = False

    def __init__(self, path: str, *, readers: int, exclusive: bool) -> None:
        if not path or path == ":memory:":
            raise ValueError("SQLite needs a file: threads and restarts must see the same data")
        self._path = Path(path)
        self._lock = FileLock(self._path.with_name(self._path.name + ".lock"), needed=exclusive)
        self._works: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_loop, name="sqlite-writer", daemon=True)
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="sqlite-reader")
        self._local = threading.local()
        self._reading: list[sa.Connection] = []
        self._engine = sqlite_engine(self._path)

    async def open(self) -> None:
        await asyncio.to_thread(self._prepare)
        self._writer.start()

    async def close(self) -> None:
        self._works.put(None)
        await asyncio.to_thread(self._writer.join)
        self._readers.shutdown()
        await asyncio.to_thread(self._tidy)
        self._lock.release()

    async def write(self, work: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if not self._writer.is_alive():
            raise RuntimeError("the database is not open")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._works.put(_Asked(lambda tx: work(tx, *args, **kwargs), loop, future))
        return await future

    async def write_then(
        self, follow: AfterWrite[T], work: Transaction[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        result = await self.write(work, *args, **kwargs)
        await follow(result, None)
        return result

    async def driver_pool(self, size: int) -> None:  # noqa: ARG002 - nobody shares this file
        return None

    async def read(self, work: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        run = partial(self._read, lambda tx: work(tx, *args, **kwargs))
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, run)
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise _judged(error) from error

    def _prepare(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.acquire()
        with self._engine.connect():  # creates the file and sets its journal mode
            self._path.chmod(0o600)

    def _tidy(self) -> None:
        """Close the readers' connections and checkpoint the journal into the file."""
        for connection in self._reading:
            connection.close()
        with self._engine.connect() as connection:
            raw = connection.connection.cursor()  # a pragma like this is no part of a transaction
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            raw.close()

    def _write_loop(self) -> None:
        with self._connect() as connection:
            while first := self._works.get():
                batch, more = self._gather(first)
                self._commit_together(connection, batch)
                if not more:
                    break

    def _gather(self, first: _Asked) -> tuple[list[_Asked], bool]:
        batch = [first]
        with contextlib.suppress(queue.Empty):
            while len(batch) < MOST_WORKS_A_COMMIT:
                following = self._works.get_nowait()
                if following is None:
                    return batch, False
                batch.append(following)
        return batch, True

    @staticmethod
    def _commit_together(connection: sa.Connection, batch: list[_Asked]) -> None:
        raw = _driver_connection(connection)
        try:
            with _transaction(raw, "BEGIN IMMEDIATE"):
                for asked in batch:
                    _run_in_savepoint(connection, raw, asked)
                raw.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - rolled back: every caller gets the error
            for asked in batch:
                asked.error = asked.error or error
        _answer(batch)

    def _connect(self) -> sa.Connection:
        """Return a connection whose transactions are begun and ended by `_transaction`.

        SQLAlchemy takes one to be open all the time, so that it begins and commits none.
        """
        connection = self._engine.connect().execution_options(is_begun_by_driver=True)
        connection.begin()
        return connection

    def _read(self, work: Callable[[sa.Connection], T]) -> T:
        connection: sa.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            self._reading.append(connection)
        with _transaction(_driver_connection(connection), "BEGIN"):
            return work(connection)


@contextlib.contextmanager
def _transaction(raw: sqlite3.Connection, begin: str) -> Iterator[None]:
    """Begin a transaction by the driver alone; roll back unless the block commits it.

    SQLAlchemy's own BEGIN and COMMIT cost as much as several statements.
    """
    raw.execute(begin)
    try:
        yield
    finally:
        if raw.in_transaction:
            raw.execute("ROLLBACK")


def _run_in_savepoint(connection: sa.Connection, raw: sqlite3.Connection, asked: _Asked) -> None:
    try:
        raw.execute("SAVEPOINT work")
        asked.result = asked.work(connection)
        raw.execute("RELEASE work")
    except Exception as error:
        if not raw.in_transaction:
            # On a full disk or an I/O error SQLite rolls the whole transaction back by itself.
            raise DatabaseUnavailable(log=str(getattr(error, "orig", error))) from error
        raw.execute("ROLLBACK TO work")
        raw.execute("RELEASE work")
        asked.error = error


def _driver_connection(connection: sa.Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", connection.connection.dbapi_connection)


def sqlite_engine(path: Path) -> sa.Engine:
    """Return a Core engine on the file. Its transactions begin IMMEDIATE."""
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        poolclass=NullPool,
        connect_args={"check_same_thread": False},
        hide_parameters=True,
        json_serializer=json_columns.dump,
        json_deserializer=json_columns.load,
    )
    sa.event.listen(engine, "connect", _on_connect)
    sa.event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection: sa.Connection) -> None:
    if not connection.get_execution_options().get("is_begun_by_driver"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
