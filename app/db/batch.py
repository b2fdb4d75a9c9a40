"""Inserts that PostgreSQL executes in one round trip with the statement after them.

An insert that returns nothing can wait until its transaction executes another statement or commits.
Waiting inserts are then sent as the `WITH` clause of that statement. All parts of such a statement
see the database as it was before, so a statement that uses a table of a waiting insert is sent
after the inserts.
"""

import re
from typing import Any

import sqlalchemy as sa

from app.db import driver
from app.db.compiled import CompiledStatement

MAX_INSERTS = 16  # in one statement

_KEY = "batch"
_PLACEHOLDER = re.compile(r"\$(\d+)")
_joined_sql: dict[tuple[CompiledStatement, ...], str] = {}

Waiting = list[tuple[CompiledStatement, tuple[Any, ...]]]


def defer_insert(tx: sa.Connection, insert: CompiledStatement, arguments: tuple[Any, ...]) -> None:
    """Have an insert executed with the transaction's next statement, or before its commit."""
    waiting: Waiting = tx.info.setdefault(_KEY, [])
    waiting.append((insert, arguments))
    if len(waiting) >= MAX_INSERTS:
        flush(tx)


def flush(tx: sa.Connection) -> None:
    """Execute the waiting inserts."""
    waiting: Waiting | None = tx.info.get(_KEY)
    if waiting:
        *earlier, (last, arguments) = waiting
        waiting.clear()
        driver.execute(tx, *_joined(earlier, last, arguments)).close()


def discard(tx: sa.Connection) -> None:
    """Drop the waiting inserts of a transaction that was rolled back."""
    tx.info.pop(_KEY, None)


def join_waiting_inserts(
    tx: sa.Connection, statement: CompiledStatement, arguments: tuple[Any, ...]
) -> tuple[str, tuple[Any, ...]]:
    """Return the SQL and the arguments of a statement together with the waiting inserts.

    Inserts into tables that the statement uses are executed first.
    """
    waiting: Waiting | None = tx.info.get(_KEY)
    if not waiting:
        return statement.sql, arguments
    used = statement.tables
    if any(not used or not insert.tables or insert.tables & used for insert, _ in waiting):
        flush(tx)
        return statement.sql, arguments
    earlier = waiting[:]
    waiting.clear()
    return _joined(earlier, statement, arguments)


def _joined(
    earlier: Waiting, last: CompiledStatement, arguments: tuple[Any, ...]
) -> tuple[str, tuple[Any, ...]]:
    if not earlier:
        return last.sql, arguments
    statements = (*(insert for insert, _ in earlier), last)
    sql = _joined_sql.get(statements)
    if sql is None:
        # The placeholders of each statement are numbered after those of the statements before it.
        numbered, before = [], 0
        for one, values in (*earlier, (last, arguments)):
            pieces = _PLACEHOLDER.split(one.sql)  # text, number, text, number, …, text
            pieces[1::2] = [f"${int(number) + before}" for number in pieces[1::2]]
            numbered.append("".join(pieces))
            before += len(values)
        inserts = ", ".join(f"i{n} AS ({text})" for n, text in enumerate(numbered[:-1]))
        sql = _joined_sql[statements] = f"WITH {inserts} {numbered[-1]}"
    return sql, (*(value for _, values in earlier for value in values), *arguments)
