"""Migrations up from an empty database and down again, on both databases; constraints.

Covers: app.access.tables, app.audio.tables, app.billing.tables, app.db.migrate, app.jobs.tables
"""

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.billing.tables import ledger_line
from app.db.database import Database
from app.db.migrate import (
    NewerSchemaError,
    SchemaState,
    alembic_config,
    is_current,
    known_revisions,
    migrate,
    open_database,
    read_schema_state,
)
from app.jobs.tables import event, metadata
from tests.support.scenario import Scenario

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def tables(tx: sa.Connection) -> set[str]:
    return set(sa.inspect(tx).get_table_names()) - {"alembic_version"}


def differences(tx: sa.Connection) -> list[Any]:
    context = MigrationContext.configure(tx, opts={"compare_type": True})
    return list(compare_metadata(context, metadata))


def to_base(tx: sa.Connection) -> None:
    command.downgrade(alembic_config(tx), "base")


def set_version(tx: sa.Connection, version: str) -> None:
    tx.execute(sa.text("UPDATE alembic_version SET version_num = :version"), {"version": version})


def leftovers(tx: sa.Connection) -> list[str]:
    """Return the functions and triggers of the database."""
    query = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        if tx.dialect.name == "sqlite"
        else "SELECT proname FROM pg_proc WHERE proname = 'refuse_change' "
        "UNION SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    )
    return list(tx.scalars(sa.text(query)))


async def test_upgrade_downgrade_and_upgrade_again(empty_database_url: str) -> None:
    async with open_database(empty_database_url) as db:
        assert await db.read(tables) == set(metadata.tables)
        assert await db.read(leftovers)
        await db.write(to_base)
        assert await db.read(tables) == set()
        assert await db.read(leftovers) == []
        assert not await is_current(db)
        await migrate(db)
        assert await db.read(tables) == set(metadata.tables)
        assert await is_current(db)


def test_known_revisions_are_those_of_alembic_in_their_order() -> None:
    script = ScriptDirectory.from_config(alembic_config())
    upwards = [one.revision for one in script.walk_revisions()][::-1]
    assert list(known_revisions()) == upwards
    assert script.get_heads() == [known_revisions()[-1]]


async def test_state_of_a_schema(empty_database_url: str) -> None:
    async with open_database(empty_database_url, apply_migrations=False) as db:
        assert await db.read(read_schema_state) is SchemaState.EMPTY
        await migrate(db)
        assert await db.read(read_schema_state) is SchemaState.CURRENT
        await db.write(set_version, "9999")
        assert await db.read(read_schema_state) is SchemaState.NEWER
        with pytest.raises(NewerSchemaError):
            await migrate(db)
        await db.write(set_version, known_revisions()[-1])
        await db.write(to_base)
        assert await db.read(read_schema_state) is SchemaState.EMPTY


async def test_alembic_finds_no_difference_between_models_and_migrations(db: Database) -> None:
    assert await db.read(differences) == []
    await db.write(lambda tx: command.check(alembic_config(tx)))


def structure(tx: sa.Connection) -> dict[str, Any]:
    """Return the structure of each table as the database reports it."""
    seen = sa.inspect(tx)
    return {
        name: {
            "columns": [{**one, "type": str(one["type"])} for one in seen.get_columns(name)],
            "primary key": seen.get_pk_constraint(name),
            "foreign keys": sorted(seen.get_foreign_keys(name), key=repr),
            "unique": sorted(seen.get_unique_constraints(name), key=repr),
            "checks": sorted(seen.get_check_constraints(name), key=repr),
            "indexes": [
                {**one, "dialect_options": {k: str(v) for k, v in one["dialect_options"].items()}}
                for one in seen.get_indexes(name)
            ],
            "options": seen.get_table_options(name),
        }
        for name in metadata.tables
    }


async def test_migrations_and_models_create_the_same_structure(db: Database) -> None:
    """Also primary keys, index conditions and WITHOUT ROWID, which Alembic does not compare."""
    migrated = await db.read(structure)
    await db.write(to_base)
    await db.write(metadata.create_all)
    described = await db.read(structure)
    for name, table in described.items():
        assert migrated[name] == table, name


async def test_migrating_twice_changes_nothing(database_url: str) -> None:
    for _ in range(2):
        async with open_database(database_url) as db:
            assert await is_current(db)


async def test_check_constraints_are_the_same_in_models_and_database(db: Database) -> None:
    def checks(tx: sa.Connection) -> set[str]:
        seen = sa.inspect(tx)
        return {
            check["name"] for name in metadata.tables for check in seen.get_check_constraints(name)
        }

    on_paper = {
        str(constraint.name)
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
    }
    assert await db.read(checks) == on_paper


@pytest.mark.parametrize(
    "statement",
    [
        sa.update(ledger_line).values(nano=0),
        sa.update(ledger_line).values(kind="adjust"),
        sa.delete(ledger_line),
        sa.update(event).values(type="other"),
    ],
)
async def test_the_database_refuses_changes_of_append_only_rows(
    db: Database, statement: Any
) -> None:
    scenario = await Scenario.create(db)
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        await db.write(lambda tx: tx.execute(statement))
    assert [line["kind"] for line in await scenario.lines()] == ["hold"]
    assert [seen["type"] for seen in await scenario.events()] == ["created"]


async def test_events_can_be_deleted(db: Database) -> None:
    scenario = await Scenario.create(db)
    await db.write(lambda tx: tx.execute(sa.delete(event)))
    assert await scenario.events() == []
