"""Inserts that PostgreSQL executes in one round trip with the statement after them.

An insert that returns nothing can wait until its transaction executes something else or commits.
The inserts that wait are then sent as the `WITH` clause of the next statement. All parts of such a
statement see the database as it was before it, so a statement that uses one of their tables is
sent after them instead.
"""

import re
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any, Protocol

import sqlalchemy as sa

from app.db import driver

MAX_INSERTS = 16  # in one statement; more of them are sent before it

_KEY = "batch"
_PLACEHOLDER = re.compile(r"\$(\d+)")
_combined: dict[tuple[object, ...], str] = {}


class Statement(Protocol):
    """SQL with placeholders `$1`, `$2`, …; `tables` it uses, None where they are not known."""

    sql: str
    tables: frozenset[str] | None


def defer(tx: sa.Connection, insert: Statement, arguments: tuple[Any, ...]) -> None:
    """Have an insert executed with the next statement of the transaction, or before its commit."""
    waiting = tx.info.setdefault(_KEY, [])
    waiting.append((insert, arguments))
    if len(waiting) >= MAX_INSERTS:
        flush(tx)


def flush(tx: sa.Connection) -> None:
    """Execute the inserts that wait."""
    if waiting := tx.info.get(_KEY):
        *earlier, (last, arguments) = waiting
        waiting.clear()
        driver.execute(tx, *_joined(earlier, last, arguments)).close()


def discard(tx: sa.Connection) -> None:
    """Forget inserts of a transaction that was rolled back."""
    tx.info.pop(_KEY, None)


def with_deferred(
    tx: sa.Connection, statement: Statement, arguments: tuple[Any, ...]
) -> tuple[str, tuple[Any, ...]]:
    """Return SQL and arguments of a statement together with the inserts that wait for it."""
    waiting = tx.info.get(_KEY)
    if not waiting:
        return statement.sql, arguments
    if statement.tables is None or any(insert.tables & statement.tables for insert, _ in waiting):
        flush(tx)
        return statement.sql, arguments
    earlier = waiting[:]
    waiting.clear()
    return _joined(earlier, statement, arguments)


def _joined(
    earlier: Sequence[tuple[Statement, tuple[Any, ...]]],
    last: Statement,
    arguments: tuple[Any, ...],
) -> tuple[str, tuple[Any, ...]]:
    if not earlier:
        return last.sql, arguments
    statements = (*(insert for insert, _ in earlier), last)
    sql = _combined.get(statements)
    if sql is None:
        counts = [len(given) for _, given in earlier]
        sql = _combined[statements] = _with_clause(statements, counts)
    return sql, (*(value for _, given in earlier for value in given), *arguments)


def _with_clause(statements: Sequence[Statement], counts: Sequence[int]) -> str:
    """Join statements to one; the placeholders of each count on from those before it."""
    *inserts, last = (
        _PLACEHOLDER.sub(partial(_renumbered, before), statement.sql)
        for statement, before in zip(statements, accumulate(counts, initial=0), strict=True)
    )
    return f"WITH {', '.join(f'i{n} AS ({sql})' for n, sql in enumerate(inserts))} {last}"


def _renumbered(before: int, placeholder: re.Match[str]) -> str:
    return f"${int(placeholder[1]) + before}"
