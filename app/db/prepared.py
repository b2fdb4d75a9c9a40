"""Statements that are compiled once for each database and then executed by its driver.

SQLAlchemy Core remains the source of every statement, and its column types convert parameters and
results. Only SQLAlchemy's work per execution is left out: it costs more than the database's own.
Errors are the ones that `Connection.execute` raises.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import visitors

from app.db import batch, driver

Values = Mapping[str, Any]
Convert = Callable[[Any], Any]

_NO_VALUES: Values = {}


class Prepared:
    """A Core statement, executed with named values.

    It is compiled at the first use with a set of names: as in Core, the names given to an INSERT
    or UPDATE choose its columns. An expanding parameter takes a list; each length of the list is
    compiled for itself, so lists must be short. Rows are named tuples.
    """

    __slots__ = ("_compiled", "_lists", "_statement")

    def __init__(self, statement: sa.Executable) -> None:
        self._statement: Any = statement
        if isinstance(statement, sa.Insert) and not statement._returning:  # noqa: SLF001
            self._statement = statement.inline()  # no RETURNING of server defaults: none reads them
        parameters = visitors.iterate(self._statement)
        self._lists = tuple(
            found.key
            for found in parameters
            if isinstance(found, sa.BindParameter) and found.expanding and found.required
        )
        self._compiled: dict[tuple[Any, ...], _Compiled] = {}

    def run(self, tx: sa.Connection, values: Values = _NO_VALUES) -> int:
        """Execute a statement that returns no rows; return the number of rows it changed."""
        compiled = self._for(tx, values)
        cursor = compiled.execute(tx, values)
        changed: int = cursor.rowcount
        cursor.close()
        return changed

    def run_many(self, tx: sa.Connection, rows: Sequence[Values]) -> None:
        """Execute a statement that returns no rows once for each item; all have the same names."""
        if rows:
            self._for(tx, rows[0]).execute_many(tx, rows)

    def add(self, tx: sa.Connection, values: Values) -> None:
        """Execute an INSERT at the latest with the next statement of the transaction; see batch.

        On PostgreSQL that saves a round trip, and an error may come from that later statement.
        """
        compiled = self._for(tx, values)
        if tx.dialect.name == "postgresql":
            batch.defer(tx, compiled, compiled.arguments(tx, values))
        else:
            compiled.execute(tx, values).close()

    def add_many(self, tx: sa.Connection, rows: Sequence[Values]) -> None:
        """Execute an INSERT for each item, as `add` does."""
        if tx.dialect.name == "postgresql":
            for row in rows:
                self.add(tx, row)
        else:
            self.run_many(tx, rows)

    def all(self, tx: sa.Connection, values: Values = _NO_VALUES) -> list[Any]:
        """Return all rows."""
        compiled = self._for(tx, values)
        cursor = compiled.execute(tx, values)
        rows = compiled.fetch(tx, cursor)
        cursor.close()
        return rows

    def first(self, tx: sa.Connection, values: Values = _NO_VALUES) -> Any:
        """Return the first row, or None."""
        rows = self.all(tx, values)
        return rows[0] if rows else None

    def scalar(self, tx: sa.Connection, values: Values = _NO_VALUES) -> Any:
        """Return the first column of the first row, or None."""
        rows = self.all(tx, values)
        return rows[0][0] if rows else None

    def scalars(self, tx: sa.Connection, values: Values = _NO_VALUES) -> list[Any]:
        """Return the first column of all rows."""
        return [row[0] for row in self.all(tx, values)]

    def _for(self, tx: sa.Connection, values: Values) -> "_Compiled":
        key: tuple[Any, ...] = (tx.dialect.name, *values)
        if self._lists:
            key += tuple(len(values.get(name, ())) for name in self._lists)
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = _Compiled(self._statement, tx.dialect, values)
        return compiled


class _Compiled:
    """A statement in the SQL of one database, for one set of names."""

    def __init__(self, statement: Any, dialect: Dialect, values: Values) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(values))
        # Writes out lists. Raises InvalidRequestError where a parameter has no value.
        state = compiled.construct_expanded_state(values)
        converts = {**compiled._bind_processors, **state.processors}  # noqa: SLF001
        self._items = [
            (name, items) for name, items in state.parameter_expansion.items() if name in values
        ]
        given = {*values, *(item for _, items in self._items for item in items)}
        self.sql: str = state.statement
        self.tables = _tables_of(statement, self.sql)
        self._parameters = [
            _parameter(name, name in given, state.parameters[name], converts.get(name))
            for name in state.positiontup or ()
        ]
        self._columns = compiled._result_columns  # noqa: SLF001
        self._make_row: Callable[[Sequence[Any]], Any] | None = None
        self._converts: list[tuple[int, Convert]] = []

    def execute(self, tx: sa.Connection, values: Values) -> Any:
        """Return the driver's cursor; the caller closes it."""
        arguments = self.arguments(tx, values)
        if tx.dialect.name == "postgresql":
            return driver.execute(tx, *batch.with_deferred(tx, self, arguments))
        return driver.execute(tx, self.sql, arguments)

    def execute_many(self, tx: sa.Connection, rows: Sequence[Values]) -> None:
        many = [self.arguments(tx, row) for row in rows]
        if tx.dialect.name == "postgresql":
            batch.flush(tx)
        driver.execute(tx, self.sql, many, many=True).close()

    def fetch(self, tx: sa.Connection, cursor: Any) -> list[Any]:
        """Return the rows of an executed cursor."""
        make = self._make_row or self._learn_rows(tx, cursor.description)
        found = cursor.fetchall()
        if self._converts:
            found = [list(row) for row in found]
            for row in found:
                for index, convert in self._converts:
                    row[index] = convert(row[index])
        return [make(row) for row in found]

    def arguments(self, tx: sa.Connection, values: Values) -> tuple[Any, ...]:
        """Return the values in their order, converted for the driver. Raises StatementError."""
        try:
            for name, items in self._items:
                values = {**values, **dict(zip(items, values[name], strict=True))}
            return tuple(
                [
                    constant if name is None else convert(values[name]) if convert else values[name]
                    for name, convert, constant in self._parameters
                ]
            )
        except Exception as error:  # noqa: BLE001 - raised anew
            driver.raise_as_core(tx, error, self.sql)

    def _learn_rows(
        self, tx: sa.Connection, description: Sequence[Any]
    ) -> Callable[[Sequence[Any]], Any]:
        """Decide how rows are read. A driver may convert a type itself, as its description says."""
        names = [column.keyname for column in self._columns] or [said[0] for said in description]
        row_class: Any = namedtuple("Row", names, rename=True)  # type: ignore[misc]  # noqa: PYI024
        converts = [
            column.type._cached_result_processor(tx.dialect, said[1])  # noqa: SLF001
            for column, said in zip(self._columns, description, strict=False)
        ]
        self._converts = [(index, convert) for index, convert in enumerate(converts) if convert]
        self._make_row = partial(tuple.__new__, row_class)
        return self._make_row


def _tables_of(statement: Any, sql: str) -> frozenset[str] | None:
    """Return the tables a statement uses; None where they, or its form, are not known."""
    if isinstance(statement, sa.TextClause) or sql.startswith("WITH"):
        return None
    tables = {one.name for one in visitors.iterate(statement) if isinstance(one, sa.Table)}
    return frozenset(tables) or None


def _parameter(
    name: str, is_given: bool, value: Any, convert: Convert | None
) -> tuple[str | None, Convert | None, Any]:
    """Return name and conversion of a parameter, or the constant it always is."""
    if is_given:
        return name, convert, None
    return None, None, convert(value) if convert else value
