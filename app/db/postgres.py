"""PostgreSQL through asyncpg: each work in one transaction, repeated if the server asks for it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only, greenlet_spawn

from app.db import batch, json_columns
from app.db.database import AfterWrite, Transaction
from app.db.driver import raise_as_core
from app.errors import DatabaseUnavailable

P = ParamSpec("P")
T = TypeVar("T")

TRIES = 3
STATEMENTS_A_CONNECTION = 500  # that stay prepared; there are some 200
_BEGIN = "BEGIN"
_READ_ONLY = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
# A serialization failure or a deadlock: the server undid the transaction and wants it again.
# A unique violation: mostly somebody made the same row since the work read it; the repeat finds it.
_AGAIN = frozenset({"40001", "40P01", "23505"})
# Connection failure, lock not had in time, no resources, the operator's intervention; a
# transaction that idled or lasted too long: its process stood still, and the session is gone.
_AWAY_CLASSES = ("08", "55P03", "53", "57", "25P03", "25P04")
_AWAY = (
    OSError,
    sa.exc.TimeoutError,
    sa.exc.InterfaceError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the driver: the session ended between two steps
)
_SESSION = {
    "application_name": "asr-gateway",
    "timezone": "UTC",
    "lock_timeout": "5s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "10s",
}


class PostgresDatabase:
    """A PostgreSQL database that many replicas and workers share."""

    is_shared = True

    def __init__(self, address: sa.URL, *, pool: int) -> None:
        self._address = address
        self._engine = postgres_engine(address, pool=pool).sync_engine

    async def open(self) -> None:
        await greenlet_spawn(lambda: self._engine.connect().close())

    async def close(self) -> None:
        await greenlet_spawn(self._engine.dispose)

    async def write(self, work: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.write_then(_nothing, work, *args, **kwargs)

    async def write_then(
        self, follow: AfterWrite[T], work: Transaction[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def transact(connection: sa.Connection) -> T:
            result = work(connection, *args, **kwargs)
            batch.flush(connection)
            if follow is not _nothing:
                await_only(follow(result, connection.connection.driver_connection))
            connection.commit()
            return result

        return await self._repeated(transact)

    async def driver_pool(self, size: int) -> Any:
        address = self._address.set(drivername="postgresql")
        async with _judged():
            return await asyncpg.create_pool(
                address.render_as_string(hide_password=False),
                min_size=1,
                max_size=size,
                server_settings=_SESSION,
            )

    async def read(self, work: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        def look(connection: sa.Connection) -> T:
            return work(connection, *args, **kwargs)

        return await self._repeated(look, **_READ_ONLY)

    async def _repeated(self, transact: Callable[[sa.Connection], T], **options: Any) -> T:
        """Run a transaction in one greenlet, and again if it cannot have been committed.

        AsyncEngine takes five greenlets, which cost as much as a short transaction's statements.
        """

        def run() -> T:
            with self._engine.connect() as connection:
                connection.execution_options(**options)
                _begin(connection)
                return transact(connection)

        async with _judged():
            for left in reversed(range(TRIES)):
                try:
                    return await greenlet_spawn(run)
                except (sa.exc.DBAPIError, asyncpg.PostgresError) as error:
                    if left == 0 or not _was_undone(error):
                        raise
        raise AssertionError("unreachable: the last try returns or raises")


def _begin(connection: sa.Connection) -> None:
    """Begin the transaction now; SQLAlchemy would with the first statement.

    A pooled connection that the server has closed is found here, where nothing is lost, so none is
    pinged: `pool_pre_ping` takes three round trips, half the cost of a short transaction.
    """
    batch.discard(connection)
    connection.begin()
    adapted: Any = connection.connection.dbapi_connection
    try:
        await_only(adapted._start_transaction())  # noqa: SLF001
    except BaseException as error:  # noqa: BLE001 - raised anew
        raise_as_core(connection, error, _BEGIN)


def _was_undone(error: Exception) -> bool:
    """Return whether a transaction never began, or was rolled back by the server for a repeat."""
    if isinstance(error, sa.exc.DBAPIError) and error.statement == _BEGIN:
        return error.connection_invalidated
    return _state_of(error) in _AGAIN


async def _nothing(_result: object, _connection: object) -> None:
    """Do nothing: the default for `follow`."""


@asynccontextmanager
async def _judged() -> AsyncIterator[None]:
    """Turn a failure of the server or of the connection into DatabaseUnavailable."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, asyncpg.PostgresError, *_AWAY) as error:
        if _is_away(error):
            raise DatabaseUnavailable(log=type(error).__name__) from error
        raise


def _is_away(error: BaseException) -> bool:
    said = getattr(error, "orig", None)
    said_by_driver = getattr(said, "__cause__", None)
    return (
        isinstance(error, _AWAY)
        or isinstance(said_by_driver, _AWAY)
        or _state_of(error).startswith(_AWAY_CLASSES)
    )


def _state_of(error: BaseException) -> str:
    """Return the five characters of PostgreSQL's error code, or an empty text."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def postgres_engine(address: sa.URL, *, pool: int) -> AsyncEngine:
    """Return an async engine for any spelling of a PostgreSQL address."""
    engine = create_async_engine(
        address.set(drivername="postgresql+asyncpg"),
        pool_size=pool,
        max_overflow=0,
        hide_parameters=True,
        json_serializer=json_columns.dump,  # read by the standard library: JSONB keeps no mark
        connect_args={
            "server_settings": _SESSION,
            "prepared_statement_cache_size": STATEMENTS_A_CONNECTION,
        },
    )
    sa.event.listen(engine.sync_engine, "before_cursor_execute", lambda tx, *_: batch.flush(tx))
    return engine
