"""The metadata of all tables, their column types, and the database's clock."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement

ID_SIZE = 48

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Utc(sa.types.TypeDecorator[datetime]):
    """An aware UTC datetime, to the microsecond. A naive datetime is refused.

    SQLite stores it as text that sorts by time, e.g. `2026-11-21 05:28:00.000000`.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any]:
        return _to_text if dialect.name == "sqlite" else _to_utc

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002
        if dialect.name == "sqlite":
            return lambda text: None if text is None else datetime.fromisoformat(text + "+00:00")
        return _to_utc


def _to_utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else _as_utc(moment)


def _as_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a naive datetime cannot be stored")
    return moment.astimezone(UTC)


_last_written: tuple[datetime | None, str] = (None, "")


def _to_text(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    global _last_written  # noqa: PLW0603 - rows of one transaction share their moment
    known, text = _last_written
    if moment is not known:
        text = _as_utc(moment).replace(tzinfo=None).isoformat(" ", "microseconds")
        _last_written = (moment, text)
    return text


class database_now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function it is
    """Now plus `seconds`, by the database's clock, which all workers share."""

    type = Utc()
    inherit_cache = True

    def __init__(self, seconds: float | sa.BindParameter[float] = 0.0) -> None:
        bound = isinstance(seconds, sa.BindParameter)
        super().__init__(seconds if bound else sa.literal(float(seconds), sa.Float))


@compiles(database_now, "sqlite")
def _sqlite_now(element: database_now, compiler: SQLCompiler, **kw: Any) -> str:
    # Padded to microseconds, so that it compares as text with stored values.
    seconds = compiler.process(element.clauses, **kw)
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now', ({seconds}) || ' seconds') || '000')"


@compiles(database_now, "postgresql")
def _postgres_now(element: database_now, compiler: SQLCompiler, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"(clock_timestamp() + make_interval(secs => {seconds}))"


def Id() -> sa.String:  # noqa: N802 - stands where a column type stands
    """Column type of a prefixed UUIDv7."""
    return sa.String(ID_SIZE)


def Json() -> Any:  # noqa: N802 - stands where a column type stands
    """Column type of a JSON value. A missing value is SQL NULL, not JSON null."""
    return sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def one_of(column: str, *values: str, name: str) -> sa.CheckConstraint:
    """Return a CHECK that the column holds one of these values."""
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=name)


def literals(values: Sequence[str]) -> sa.BindParameter[Sequence[str]]:
    """Return values for `in_` that are part of the SQL text.

    SQLite uses a partial index only where the query repeats its condition with literals.
    """
    return sa.bindparam(None, values, expanding=True, literal_execute=True)
