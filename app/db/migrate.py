"""Migration of a database to the newest schema."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.db.connect import make_database
from app.db.database import Database

_HERE = Path(__file__).resolve().parent.parent


def migrations_folder() -> Path:
    """Return the folder of the migrations: inside the wheel, or beside `app` in a checkout."""
    packaged = _HERE / "migrations"
    return packaged if packaged.is_dir() else _HERE.parent / "migrations"


def alembic_config(connection: sa.Connection | None = None) -> Config:
    """Return Alembic's configuration. With a connection, migrations run in its transaction."""
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@asynccontextmanager
async def open_database(
    url: str,
    *,
    readers: int = 4,
    pool: int = 10,
    exclusive: bool = False,
    apply_migrations: bool = True,
) -> AsyncIterator[Database]:
    """Open the database at `url` for the block; see `make_database` for the parameters.

    Raises DatabaseLockedError, ValueError, DatabaseUnavailable.
    """
    db = make_database(url, readers=readers, pool=pool, exclusive=exclusive)
    await db.open()
    try:
        if apply_migrations:
            await migrate(db)
        yield db
    finally:
        await db.close()


class Schema(StrEnum):
    """The schema of a database, compared with the newest one that this version knows."""

    CURRENT = "current"
    EMPTY = "empty"
    OLDER = "older"
    UNKNOWN = "unknown"  # made by a newer version


async def schema_of(database: Database) -> Schema:
    """Compare the database's schema with the newest one."""
    return await database.read(_schema)


async def migrate(database: Database, revision: str = "head") -> None:
    """Migrate the database, in one transaction."""
    if revision == "head" and await is_current(database):
        return
    await database.write(_upgrade, revision)


async def is_current(database: Database) -> bool:
    """Tell whether the database has the newest schema."""
    return await schema_of(database) is Schema.CURRENT


def _upgrade(tx: sa.Connection, revision: str) -> None:
    if tx.dialect.name == "postgresql":
        # Of several processes that start together the first migrates, and the others wait here.
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext("asr-gateway"))))
    command.upgrade(alembic_config(tx), revision)


def _schema(tx: sa.Connection) -> Schema:
    found = MigrationContext.configure(tx).get_current_heads()
    if not found:
        return Schema.EMPTY
    if set(found) == _heads():
        return Schema.CURRENT
    known = {one.revision for one in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    return Schema.OLDER if set(found) <= known else Schema.UNKNOWN


@cache
def _heads() -> frozenset[str]:
    return frozenset(ScriptDirectory.from_config(alembic_config()).get_heads())
