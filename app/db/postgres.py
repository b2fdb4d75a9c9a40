"""PostgreSQL through asyncpg. A transaction is repeated where the server asks for it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only, greenlet_spawn

from app.db import batch, json_columns
from app.db.connect import split_driver_options
from app.db.database import AfterWrite, Transaction
from app.db.driver import raise_as_core
from app.errors import DatabaseUnavailable

P = ParamSpec("P")
T = TypeVar("T")

MAX_ATTEMPTS = 3
MAX_PREPARED_STATEMENTS = 500  # a connection keeps; the gateway has about 200
COMMAND_TIMEOUT_SECONDS = 35.0  # above the statement_timeout: the network is down
_BEGIN = "BEGIN"
_READ_ONLY = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
# Serialization failure and deadlock: the server rolled the transaction back. Unique violation:
# mostly another transaction inserted the row after this one looked for it, and now finds it.
_REPEATABLE_STATES = frozenset({"40001", "40P01", "23505"})
# Connection failure, lock timeout, lack of resources, operator intervention, and a transaction
# that idled or lasted too long because its process was stopped.
_UNAVAILABLE_STATES = ("08", "55P03", "53", "57", "25P03", "25P04")
_UNAVAILABLE_ERRORS = (
    OSError,
    sa.exc.TimeoutError,
    sa.exc.InterfaceError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # of the driver, where the session ended between two steps
)
_SESSION = {
    "application_name": "asr-gateway",
    "timezone": "UTC",
    "lock_timeout": "5s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "10s",
}


class PostgresDatabase:
    """A PostgreSQL database, shared by any number of processes."""

    is_shared = True

    def __init__(self, address: sa.URL, *, pool: int) -> None:
        self._address = address
        self._engine = postgres_engine(address, pool=pool).sync_engine

    async def open(self) -> None:
        await greenlet_spawn(lambda: self._engine.connect().close())

    async def close(self) -> None:
        await greenlet_spawn(self._engine.dispose)

    async def write(self, transaction: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.write_then(_no_action, transaction, *args, **kwargs)

    async def write_then(
        self,
        after: AfterWrite[T],
        transaction: Transaction[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        def run(connection: sa.Connection) -> T:
            result = transaction(connection, *args, **kwargs)
            batch.flush(connection)
            if after is not _no_action:
                await_only(after(result, connection.connection.driver_connection))
            connection.commit()
            return result

        return await self._repeated(run)

    async def empty_journal(self) -> bool:
        return True

    async def driver_connection(self) -> Any:
        address = self._address.set(drivername="postgresql")
        async with _translated_errors():
            return await asyncpg.connect(
                address.render_as_string(hide_password=False),
                server_settings=_SESSION,
                command_timeout=COMMAND_TIMEOUT_SECONDS,
            )

    async def read(self, transaction: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        def run(connection: sa.Connection) -> T:
            return transaction(connection, *args, **kwargs)

        return await self._repeated(run, **_READ_ONLY)

    async def _repeated(self, run: Callable[[sa.Connection], T], **options: Any) -> T:
        """Run a transaction in one greenlet, and again where nothing of it was kept.

        AsyncEngine takes five greenlets, which cost as much as a short transaction's statements.
        """

        def attempt() -> T:
            with self._engine.connect() as connection:
                connection.execution_options(**options)
                _begin(connection)
                return run(connection)

        async with _translated_errors():
            for attempts_left in reversed(range(MAX_ATTEMPTS)):
                try:
                    return await greenlet_spawn(attempt)
                except (sa.exc.DBAPIError, asyncpg.PostgresError) as error:
                    if isinstance(error, sa.exc.DBAPIError) and error.statement == _BEGIN:
                        may_repeat = error.connection_invalidated  # the transaction never began
                    else:
                        may_repeat = _state_of(error) in _REPEATABLE_STATES
                    if not attempts_left or not may_repeat:
                        raise
        raise AssertionError("unreachable: the last attempt returns or raises")


def _begin(connection: sa.Connection) -> None:
    """Begin the transaction now instead of with its first statement, as SQLAlchemy does.

    A pooled connection that the server has closed fails here, before the transaction did anything.
    So none is pinged: `pool_pre_ping` takes three round trips, half of a short transaction's cost.
    """
    batch.discard(connection)
    connection.begin()
    adapted: Any = connection.connection.dbapi_connection
    try:
        await_only(adapted._start_transaction())  # noqa: SLF001
    except BaseException as error:  # noqa: BLE001 - raised again
        raise_as_core(connection, error, _BEGIN)


async def _no_action(_result: object, _connection: object) -> None:
    """Do nothing after a write."""


@asynccontextmanager
async def _translated_errors() -> AsyncIterator[None]:
    """Raise DatabaseUnavailable for a failure of the server or of the connection to it."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, asyncpg.PostgresError, *_UNAVAILABLE_ERRORS) as error:
        cause = getattr(getattr(error, "orig", None), "__cause__", None)  # the driver's own error
        if (
            isinstance(error, _UNAVAILABLE_ERRORS)
            or isinstance(cause, _UNAVAILABLE_ERRORS)
            or _state_of(error).startswith(_UNAVAILABLE_STATES)
        ):
            raise DatabaseUnavailable(log=type(error).__name__) from error
        raise


def _state_of(error: BaseException) -> str:
    """Return PostgreSQL's error code of five characters, or an empty text."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def postgres_engine(address: sa.URL, *, pool: int) -> AsyncEngine:
    """Return an async engine for a PostgreSQL address. The driver in the address is replaced."""
    plain, options = split_driver_options(address)
    engine = create_async_engine(
        plain.set(drivername="postgresql+asyncpg"),
        pool_size=pool,
        max_overflow=0,
        hide_parameters=True,
        # The standard library reads it: JSONB keeps no mark.
        json_serializer=json_columns.encode_json,
        connect_args={
            "server_settings": _SESSION,
            "prepared_statement_cache_size": MAX_PREPARED_STATEMENTS,
            **({"dsn": options} if options else {}),
        },
    )
    sa.event.listen(engine.sync_engine, "before_cursor_execute", lambda tx, *_: batch.flush(tx))
    return engine
