"""Migration of a database to the newest schema."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from app.db.connect import make_database
from app.db.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

_HERE = Path(__file__).resolve().parent.parent
_VERSION = sa.table("alembic_version", sa.column("version_num"))


class NewerSchemaError(Exception):
    """A newer version of the gateway has migrated the database."""


def migrations_folder() -> Path:
    """Return the folder of the migrations: inside the wheel, or beside `app` in a checkout."""
    packaged = _HERE / "migrations"
    return packaged if packaged.is_dir() else _HERE.parent / "migrations"


@cache
def known_revisions() -> tuple[str, ...]:
    """Return the revisions that this version knows, oldest first.

    They are the numbers with which the names of the migration files begin.
    """
    files = (migrations_folder() / "versions").glob("[0-9]*.py")
    return tuple(sorted(file.name.partition("_")[0] for file in files))


def alembic_config(connection: sa.Connection | None = None) -> "Config":
    """Return Alembic's configuration. With a connection, migrations run in its transaction."""
    config: Config = _import_alembic().config.Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _import_alembic() -> Any:
    """Import Alembic at its first use. A database with the newest schema does not need it.

    Alembic's template engine imports pygments, for coloured error pages. Pygments would take half
    of the memory, so its import is made to fail.
    """
    has_pygments = sys.modules.setdefault("pygments", None) is not None  # type: ignore[arg-type]
    try:
        import alembic.command  # noqa: PLC0415
        import alembic.config  # noqa: PLC0415
    finally:
        if not has_pygments:
            del sys.modules["pygments"]
    return alembic


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


class SchemaState(StrEnum):
    """The schema of a database, compared with the newest one that this version knows."""

    CURRENT = "current"
    EMPTY = "empty"
    OLDER = "older"
    NEWER = "newer"  # made by a newer version


def read_schema_state(tx: sa.Connection) -> SchemaState:
    """Compare the database's schema with the newest one."""
    if not sa.inspect(tx).has_table(_VERSION.name):
        return SchemaState.EMPTY
    found = tx.scalars(sa.select(_VERSION.c.version_num)).all()
    known = known_revisions()
    if not found:
        return SchemaState.EMPTY
    if list(found) == [known[-1]]:
        return SchemaState.CURRENT
    return SchemaState.OLDER if set(found) <= set(known) else SchemaState.NEWER


async def is_current(database: Database) -> bool:
    """Tell whether the database has the newest schema."""
    return await database.read(read_schema_state) is SchemaState.CURRENT


async def migrate(database: Database, revision: str = "head") -> None:
    """Migrate the database, in one transaction. Raises NewerSchemaError."""
    if revision == "head":
        state = await database.read(read_schema_state)
        if state is SchemaState.CURRENT:
            return
        if state is SchemaState.NEWER:
            raise NewerSchemaError

    def upgrade(tx: sa.Connection) -> None:
        alembic = _import_alembic()
        if tx.dialect.name == "postgresql":
            # Of several processes that start together the first migrates, the others wait here.
            tx.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext("asr-gateway"))))
        alembic.command.upgrade(alembic_config(tx), revision)

    await database.write(upgrade)
