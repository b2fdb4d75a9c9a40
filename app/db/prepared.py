"""Statements that are compiled once for each database and then executed by its driver.

SQLAlchemy Core remains the source of every statement, and its column types convert parameters and
results. Only its work per execution is left out, which takes longer than the database. Errors are
those of `Connection.execute`.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import visitors

from app.db import batch, driver
from app.db.compiled import CompiledStatement, Values

_NO_VALUES: Values = {}


class Prepared:
    """A Core statement, executed with named values.

    It is compiled at the first use with a set of names. As in Core, the names given to an INSERT or
    UPDATE choose its columns. An expanding parameter takes a list; each length of the list is
    compiled separately, so lists must be short. Rows are named tuples.
    """

    __slots__ = ("_compiled", "_lists", "_statement")

    def __init__(self, statement: sa.Executable) -> None:
        self._statement: Any = statement
        if isinstance(statement, sa.Insert) and not statement._returning:  # noqa: SLF001
            self._statement = statement.inline()  # without RETURNING of server defaults
        parameters = visitors.iterate(self._statement)
        self._lists = tuple(
            found.key
            for found in parameters
            if isinstance(found, sa.BindParameter) and found.expanding and found.required
        )
        self._compiled: dict[tuple[Any, ...], CompiledStatement] = {}

    def run(self, tx: sa.Connection, values: Values = _NO_VALUES) -> int:
        """Execute a statement that returns no rows. Return the number of rows it changed."""
        _, cursor = self._execute(tx, values)
        changed: int = cursor.rowcount
        cursor.close()
        return changed

    def run_many(self, tx: sa.Connection, rows: Sequence[Values]) -> None:
        """Execute a statement that returns no rows for each item; all have the same names."""
        if rows:
            compiled = self._for(tx, rows[0])
            many = [compiled.arguments(tx, row) for row in rows]
            if tx.dialect.name == "postgresql":
                batch.flush(tx)
            driver.execute(tx, compiled.sql, many, many=True).close()

    def add(self, tx: sa.Connection, values: Values) -> None:
        """Execute an INSERT, at the latest with the next statement of the transaction; see batch.

        On PostgreSQL this saves a round trip, and an error may be raised by that statement.
        """
        if tx.dialect.name == "postgresql":
            compiled = self._for(tx, values)
            batch.defer_insert(tx, compiled, compiled.arguments(tx, values))
        else:
            self._execute(tx, values)[1].close()

    def add_many(self, tx: sa.Connection, rows: Sequence[Values]) -> None:
        """Execute an INSERT for each item, as `add` does."""
        if tx.dialect.name == "postgresql":
            for row in rows:
                self.add(tx, row)
        else:
            self.run_many(tx, rows)

    def all(self, tx: sa.Connection, values: Values = _NO_VALUES) -> list[Any]:
        """Return all rows."""
        compiled, cursor = self._execute(tx, values)
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

    def _for(self, tx: sa.Connection, values: Values) -> CompiledStatement:
        key: tuple[Any, ...] = (tx.dialect.name, *values)
        if self._lists:
            key += tuple(len(values.get(name, ())) for name in self._lists)
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = CompiledStatement(self._statement, tx.dialect, values)
            self._compiled[key] = compiled
        return compiled

    def _execute(self, tx: sa.Connection, values: Values) -> tuple[CompiledStatement, Any]:
        """Return the statement and the driver's cursor; the caller closes it."""
        compiled = self._for(tx, values)
        sql, arguments = compiled.sql, compiled.arguments(tx, values)
        if tx.dialect.name == "postgresql":
            sql, arguments = batch.join_waiting_inserts(tx, compiled, arguments)
        return compiled, driver.execute(tx, sql, arguments)
