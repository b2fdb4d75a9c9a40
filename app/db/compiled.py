"""A Core statement in the SQL of one database, with its conversions of parameters and results."""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import visitors

from app.db import driver

Values = Mapping[str, Any]
Convert = Callable[[Any], Any]


class CompiledStatement:
    """A statement for one set of parameter names.

    `tables` are the names of the tables it uses, or None where they are not known.
    """

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
        self.tables: set[str] | None = None
        if not isinstance(statement, sa.TextClause) and not self.sql.startswith("WITH"):
            found = visitors.iterate(statement)
            self.tables = {one.name for one in found if isinstance(one, sa.Table)} or None
        names = state.positiontup or ()
        self._in_order = _in_order(names)
        self._constants: dict[str, Any] = {}  # parameters that always have the same value
        self._parameter_converts: list[tuple[int, Convert]] = []
        for index, name in enumerate(names):
            convert, value = converts.get(name), state.parameters[name]
            if name not in given:
                self._constants[name] = convert(value) if convert else value
            elif convert:
                self._parameter_converts.append((index, convert))
        self._columns = compiled._result_columns  # noqa: SLF001
        self._make_row: Callable[[Sequence[Any]], Any] | None = None
        self._converts: list[tuple[int, Convert]] = []

    def arguments(self, tx: sa.Connection, values: Values) -> tuple[Any, ...]:
        """Return the values in the order of the SQL, converted for the driver.

        Raises StatementError.
        """
        try:
            for name, items in self._items:
                values = {**values, **dict(zip(items, values[name], strict=True))}
            if self._constants:
                values = {**values, **self._constants}
            arguments = list(self._in_order(values))
            for index, convert in self._parameter_converts:
                arguments[index] = convert(arguments[index])
            return tuple(arguments)
        except Exception as error:  # noqa: BLE001 - raised again
            driver.raise_as_core(tx, error, self.sql)

    def fetch(self, tx: sa.Connection, cursor: Any) -> list[Any]:
        """Return the rows of an executed cursor."""
        if self._make_row is None:
            # By its description of the columns a driver may convert a type itself.
            said = cursor.description
            names = [column.keyname for column in self._columns] or [one[0] for one in said]
            row_class: Any = namedtuple("Row", names, rename=True)  # type: ignore[misc]  # noqa: PYI024
            converts = [
                column.type._cached_result_processor(tx.dialect, one[1])  # noqa: SLF001
                for column, one in zip(self._columns, said, strict=False)
            ]
            self._converts = [(index, convert) for index, convert in enumerate(converts) if convert]
            self._make_row = partial(tuple.__new__, row_class)
        found = cursor.fetchall()
        if self._converts:
            found = [list(row) for row in found]
            for row in found:
                for index, convert in self._converts:
                    row[index] = convert(row[index])
        make = self._make_row
        return [make(row) for row in found]


def _in_order(names: Sequence[str]) -> Callable[[Values], Sequence[Any]]:
    """Return a function that returns the values of these names."""
    if len(names) > 1:  # with one name, itemgetter returns no tuple
        return itemgetter(*names)
    return lambda values: [values[name] for name in names]
