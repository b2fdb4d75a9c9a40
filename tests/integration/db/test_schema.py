"""Tests of app.db.schema.

Covers: app.db.schema
"""

import ast
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.access.projects import ensure_project
from app.access.tables import project
from app.db.database import Database
from app.db.schema import Utc, database_now
from app.jobs.tables import metadata

pytestmark = pytest.mark.anyio
MOMENT = datetime(2026, 11, 21, 6, 30, 0, 123456, timezone(timedelta(hours=8)))


async def test_utc_returns_the_stored_time_in_utc(db: Database) -> None:
    await db.write(ensure_project, "p", now=MOMENT)
    stored = await db.read(lambda tx: tx.scalar(sa.select(project.c.created_at)))
    assert stored == MOMENT
    assert stored is not None
    assert stored.tzinfo is UTC


async def test_utc_refuses_a_naive_datetime(db: Database) -> None:
    with pytest.raises(sa.exc.StatementError, match="naive"):
        await db.write(ensure_project, "p", now=MOMENT.replace(tzinfo=None))


@pytest.mark.parametrize("seconds", [0, -0.5, 3, 86_400])
async def test_database_now_compares_with_stored_times(db: Database, seconds: float) -> None:
    def compare(tx: sa.Connection) -> tuple[Any, ...]:
        tx.execute(sa.insert(project).values(id="p", name="p", created_at=database_now(seconds)))
        stored = sa.select(project.c.created_at).scalar_subquery()
        return tuple(
            tx.execute(
                sa.select(
                    stored > database_now(seconds - 5),
                    stored < database_now(seconds + 5),
                    stored > database_now(seconds + 5),
                    stored,
                )
            ).one()
        )

    later, earlier, much_later, stored = await db.write(compare)
    assert (bool(later), bool(earlier), bool(much_later)) == (True, True, False)
    assert abs(stored - datetime.now(UTC) - timedelta(seconds=seconds)) < timedelta(seconds=5)


async def test_a_time_of_the_process_compares_with_database_now(
    db: Database,
) -> None:
    def compare(tx: sa.Connection) -> tuple[bool, bool]:
        now = tx.scalar(sa.select(database_now()))
        assert now is not None
        near = timedelta(milliseconds=2_000)
        row = tx.execute(
            sa.select(
                sa.literal(now - near, Utc()) < database_now(),
                sa.literal(now + near, Utc()) > database_now(),
            )
        ).one()
        return bool(row[0]), bool(row[1])

    assert await db.read(compare) == (True, True)


def test_every_constraint_has_a_name() -> None:
    for table in metadata.tables.values():
        for constraint in (*table.constraints, *table.indexes):
            assert constraint.name, (table.name, constraint)


def test_json_columns_store_none_as_sql_null() -> None:
    kinds = {
        column.type.none_as_null
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, sa.JSON)
    }
    assert kinds == {True}


def test_no_table_uses_a_plain_datetime() -> None:
    for file in Path("app").rglob("tables.py"):
        names = {
            node.attr
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Attribute)
        }
        assert "DateTime" not in names, file
