"""Executes SQL by the driver's own cursor, with SQLAlchemy's errors and none of its other work."""

from typing import Any, NoReturn

import sqlalchemy as sa


def execute(tx: sa.Connection, sql: str, arguments: Any, *, many: bool = False) -> Any:
    """Return the cursor, which the caller closes. `many`: the arguments are those of many rows.

    Raises the errors of `Connection.execute`.
    """
    cursor: Any = None
    try:
        # The property `connection` and the pool's `cursor` take as long as a short statement.
        pooled: Any = tx._dbapi_connection or tx.connection  # noqa: SLF001
        cursor = pooled.dbapi_connection.cursor()
        # asyncpg keeps prepared statements; those from before this moment are prepared again.
        stale_before = getattr(tx.dialect, "_invalidate_schema_cache_asof", None)
        if stale_before is not None:
            cursor._invalidate_schema_cache_asof = stale_before  # noqa: SLF001
        if many:
            cursor.executemany(sql, arguments)
        else:
            cursor.execute(sql, arguments)
    except BaseException as error:  # noqa: BLE001 - raised again
        raise_as_core(tx, error, sql, cursor)
    return cursor


def raise_as_core(
    tx: sa.Connection, error: BaseException, sql: str, cursor: Any = None
) -> NoReturn:
    """Raise the error of `Connection.execute`, with the same effects on the connection."""
    dialect: Any = tx.dialect
    if dialect.driver == "asyncpg" and isinstance(error, dialect.dbapi.InvalidCachedStatementError):
        dialect._invalidate_schema_cache()  # noqa: SLF001
    tx._handle_dbapi_exception(error, sql, None, cursor, None)  # noqa: SLF001
