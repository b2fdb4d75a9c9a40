"""SQLite with one writer thread, in which transactions that wait together share a COMMIT.

Each transaction runs in a SAVEPOINT, in the order of the calls, so one that fails is rolled back
alone. The callers continue after the shared COMMIT. WAL with `synchronous=FULL`, because money is
recorded. `BEGIN IMMEDIATE`, because under load a deferred transaction that reads before it writes
fails however long its busy timeout is.
"""

import asyncio
import contextlib
import fcntl
import os
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
from app.db.database import AfterWrite, DatabaseLockedError, Transaction
from app.errors import DatabaseUnavailable

P = ParamSpec("P")
T = TypeVar("T")

BUSY_MILLIS = 5_000
JOURNAL_LIMIT_BYTES = 64 << 20
MAX_TRANSACTIONS_A_COMMIT = 256

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
class _WriteRequest:
    transaction: Callable[[sa.Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def run(self, connection: sa.Connection, raw: sqlite3.Connection) -> None:
        """Run the transaction in a savepoint, and keep its result or error."""
        try:
            raw.execute("SAVEPOINT request")
            self.result = self.transaction(connection)
            raw.execute("RELEASE request")
        except Exception as error:
            if not raw.in_transaction:
                # On a full disk or an I/O error SQLite rolls the whole transaction back by itself.
                raise DatabaseUnavailable(log=str(getattr(error, "orig", error))) from error
            raw.execute("ROLLBACK TO request")
            raw.execute("RELEASE request")
            self.error = error


def _resolve_futures(requests: list[_WriteRequest]) -> None:
    """Resolve the futures, in their event loop, of all callers that were not cancelled."""
    for request in requests:
        if request.future.done():
            continue
        if request.error is None:
            request.future.set_result(request.result)
        else:
            request.future.set_exception(_unavailable_or_same(request.error))


# Failures of the database or the machine, which may pass; no fault of the statement.
_UNAVAILABLE_CODES = frozenset(
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
_PRIMARY_CODE = 0xFF  # the lowest byte of an extended code is its primary code


def _unavailable_or_same(error: BaseException) -> BaseException:
    """Return DatabaseUnavailable for a failure of the database itself, else the same error."""
    cause = getattr(error, "orig", error)
    if getattr(cause, "sqlite_errorcode", 0) & _PRIMARY_CODE not in _UNAVAILABLE_CODES:
        return error
    unavailable = DatabaseUnavailable(log=str(cause))
    unavailable.__cause__ = error
    return unavailable


class _FileLock:
    """An advisory lock beside a SQLite file. Without `needed` it does nothing."""

    def __init__(self, path: Path, *, needed: bool) -> None:
        self._path = path
        self._needed = needed
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Acquire the lock. Raises DatabaseLockedError, which names the file."""
        if not self._needed:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise DatabaseLockedError(
                f"Another gateway already serves {self._path.with_suffix('').name} in this folder, "
                "and SQLite is for one process: talk to that one (ASR_GATEWAY_URL), stop it, "
                "or use PostgreSQL."
            ) from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Release the lock, if it was acquired."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class SqliteDatabase:
    """A SQLite file. `exclusive` locks it for this process until `close`."""

    is_shared = False

    def __init__(self, path: str, *, readers: int, exclusive: bool) -> None:
        if not path or path == ":memory:":
            raise ValueError("SQLite needs a file: threads and restarts must see the same data")
        self._path = Path(path)
        self._lock = _FileLock(self._path.with_name(self._path.name + ".lock"), needed=exclusive)
        self._requests: queue.SimpleQueue[_WriteRequest | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_loop, name="sqlite-writer", daemon=True)
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="sqlite-reader")
        self._reader = threading.local()
        self._reader_connections: list[sa.Connection] = []
        self._engine = sqlite_engine(self._path)

    async def open(self) -> None:
        def prepare() -> None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.acquire()
            with self._engine.connect():  # creates the file and sets its journal mode
                self._path.chmod(0o600)

        await asyncio.to_thread(prepare)
        self._writer.start()

    async def close(self) -> None:
        def close_files() -> None:
            """Close the readers' connections and copy the journal into the database file."""
            for connection in self._reader_connections:
                connection.close()
            self._checkpoint()

        self._requests.put(None)
        await asyncio.to_thread(self._writer.join)
        self._readers.shutdown()
        await asyncio.to_thread(close_files)
        self._lock.release()

    async def empty_journal(self) -> bool:
        return await asyncio.to_thread(self._checkpoint)

    def _checkpoint(self) -> bool:
        """Copy the journal into the database file and empty it; return whether that was possible.

        A reader that is not finished prevents it.
        """
        with self._engine.connect() as connection:
            raw = connection.connection.cursor()  # a checkpoint is outside of transactions
            (is_busy, _, _) = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            raw.close()
        return not is_busy

    async def write(self, transaction: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if not self._writer.is_alive():
            raise RuntimeError("the database is not open")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._requests.put(_WriteRequest(lambda tx: transaction(tx, *args, **kwargs), loop, future))
        return await future

    async def write_then(
        self,
        after: AfterWrite[T],
        transaction: Transaction[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        result = await self.write(transaction, *args, **kwargs)
        await after(result, None)
        return result

    async def driver_connection(self) -> None:
        return None

    async def read(self, transaction: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        run = partial(self._read, lambda tx: transaction(tx, *args, **kwargs))
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, run)
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise _unavailable_or_same(error) from error

    def _write_loop(self) -> None:
        with self._connect() as connection:
            is_closing = False
            while not is_closing:
                waiting = [self._requests.get()]
                with contextlib.suppress(queue.Empty):
                    while waiting[-1] is not None and len(waiting) < MAX_TRANSACTIONS_A_COMMIT:
                        waiting.append(self._requests.get_nowait())
                is_closing = waiting[-1] is None
                if requests := [request for request in waiting if request is not None]:
                    self._commit_together(connection, requests)

    @staticmethod
    def _commit_together(connection: sa.Connection, requests: list[_WriteRequest]) -> None:
        raw = _driver_connection(connection)
        try:
            with _begun(raw, "BEGIN IMMEDIATE"):
                for request in requests:
                    request.run(connection, raw)
                raw.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - nothing was committed: each caller is told
            for request in requests:
                request.error = request.error or error
        for loop in {request.loop for request in requests}:  # one call into each event loop
            of_loop = [request for request in requests if request.loop is loop]
            with contextlib.suppress(RuntimeError):  # the loop is closed: no caller waits
                loop.call_soon_threadsafe(_resolve_futures, of_loop)

    def _connect(self) -> sa.Connection:
        """Return a connection whose transactions are begun and ended by `_begun`.

        For SQLAlchemy one transaction stays open, so that it begins and commits none itself.
        """
        connection = self._engine.connect().execution_options(is_begun_by_driver=True)
        connection.begin()
        return connection

    def _read(self, transaction: Callable[[sa.Connection], T]) -> T:
        connection: sa.Connection | None = getattr(self._reader, "connection", None)
        if connection is None:
            connection = self._reader.connection = self._connect()
            self._reader_connections.append(connection)
        with _begun(_driver_connection(connection), "BEGIN"):
            return transaction(connection)


@contextlib.contextmanager
def _begun(raw: sqlite3.Connection, statement: str) -> Iterator[None]:
    """Begin a transaction by the driver; roll it back unless the block commits it.

    SQLAlchemy's own BEGIN and COMMIT cost as much as several statements.
    """
    raw.execute(statement)
    try:
        yield
    finally:
        if raw.in_transaction:
            raw.execute("ROLLBACK")


def _driver_connection(connection: sa.Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", connection.connection.dbapi_connection)


def sqlite_engine(path: Path) -> sa.Engine:
    """Return a Core engine for the file. Its transactions begin IMMEDIATE."""
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        poolclass=NullPool,
        connect_args={"check_same_thread": False},
        hide_parameters=True,
        json_serializer=json_columns.encode_json,
        json_deserializer=json_columns.decode_json,
    )

    @sa.event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins no transactions by itself
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        if not connection.get_execution_options().get("is_begun_by_driver"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
