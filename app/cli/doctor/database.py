"""Checks of the database by `asr-gateway doctor`: reachable, current, intact, and ours."""

import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import sqlalchemy as sa

from app.audio.storage.local_store import IDENTITY_FILE
from app.cli.doctor.check import CheckResult, ok, problem, warning
from app.db.database import Database
from app.db.migrate import SchemaState, is_current, open_database, read_schema_state
from app.db.shared_settings import stored_value
from app.db.statement_timeout import StatementTimeoutError, statement_timeout
from app.kit.secrets import hash_key
from app.settings import Settings

INTEGRITY_SECONDS = 8.0
SHOWN_CHARS = 200
_BROKEN = (
    "Stop the gateway, keep a copy of the file with its -wal, and restore a backup; "
    "or save what can be read: sqlite3 FILE .recover."
)
_REMEDIES = {
    "ModuleNotFoundError": "Install the extra: pip install 'asr-gateway[postgres]'.",
    "InvalidPasswordError": "Correct user and password in GATEWAY_DATABASE__URL.",
    "InvalidAuthorizationSpecificationError": "Correct the user in GATEWAY_DATABASE__URL.",
    "InvalidCatalogNameError": "Make that database (createdb), or correct its name.",
}


@asynccontextmanager
async def lent(settings: Settings) -> AsyncIterator[Database | None]:
    """Lend a database that is well; None otherwise, which is the database's own finding."""
    async with AsyncExitStack() as stack:
        yield await _opened(settings, stack) if is_made(settings) else None


async def _opened(settings: Settings, stack: AsyncExitStack) -> Database | None:
    try:
        db = await stack.enter_async_context(
            open_database(settings.database_url, apply_migrations=False)
        )
        return db if await is_current(db) else None
    except Exception:  # noqa: BLE001 - drivers raise what they like while connecting
        return None


def file_of(settings: Settings) -> Path | None:
    """Return SQLite's file; None for another database."""
    address = sa.make_url(settings.database_url)
    return Path(address.database or "") if address.get_backend_name() == "sqlite" else None


def is_made(settings: Settings) -> bool:
    """Tell whether there is anything to open, for opening would make it."""
    file = file_of(settings)
    return file is None or (file.is_file() and file.stat().st_size > 0)


async def check_database(settings: Settings) -> AsyncIterator[CheckResult]:
    """Yield whether it can be used, whether it is whole, and whether it belongs to this folder."""
    if not is_made(settings):
        yield ok("database", "not made yet: `asr-gateway serve` does it")
        return
    try:
        async with open_database(settings.database_url, apply_migrations=False) as db:
            async for finding in _looked(settings, db):
                yield finding
    except Exception as error:  # noqa: BLE001 - drivers raise what they like while connecting
        yield _away(settings, error)


async def _looked(settings: Settings, db: Database) -> AsyncIterator[CheckResult]:
    server = await db.read(_server)
    schema = await db.read(read_schema_state)
    yield _of_schema(schema, server)
    yield await db.read(_integrity)
    if schema is SchemaState.CURRENT:
        for finding in await db.read(_agreements, settings):
            yield finding


def _away(settings: Settings, error: Exception) -> CheckResult:
    name = _cause(error)
    address = sa.make_url(settings.database_url)
    shown = str(file_of(settings) or f"PostgreSQL at {address.host}:{address.port or 5432}")
    if file_of(settings):
        remedy = "Check GATEWAY_DATABASE__URL and who may read and write that file and its folder."
    else:
        remedy = "Start it, or check host, port and firewall of GATEWAY_DATABASE__URL."
    if name == "DatabaseError":
        return problem("database", f"{shown} is no SQLite database, or broken", _BROKEN)
    return problem("database", f"{shown} cannot be used ({name})", _REMEDIES.get(name, remedy))


def _cause(error: BaseException) -> str:
    """Return the driver's name of the error, without our own and SQLAlchemy's text."""
    inner = getattr(error, "orig", None) or error.__cause__
    return _cause(inner) if isinstance(inner, BaseException) else type(error).__name__


def _server(tx: sa.Connection) -> str:
    if tx.dialect.name == "sqlite":
        return f"SQLite {sqlite3.sqlite_version}"
    return f"PostgreSQL {tx.scalar(sa.text('SHOW server_version'))}"


def _of_schema(schema: SchemaState, server: str) -> CheckResult:
    match schema:
        case SchemaState.CURRENT:
            return ok("database", f"{server}, migrated")
        case SchemaState.EMPTY:
            return warning("database", f"{server}, not migrated yet", "Run: asr-gateway serve.")
        case SchemaState.OLDER:
            remedy = "Make a backup, then run asr-gateway serve: it migrates on start."
            return warning("database", f"{server}, with the schema of an older version", remedy)
        case SchemaState.NEWER:
            remedy = "Run the version that migrated it, or restore a backup from before."
            return problem("database", f"{server}, migrated by a newer version", remedy)


def _integrity(tx: sa.Connection) -> CheckResult:
    name = "database integrity"
    if tx.dialect.name != "sqlite":
        return ok(name, "kept by the server")
    began = time.monotonic()
    try:
        with statement_timeout(tx, INTEGRITY_SECONDS):
            said = tx.scalars(sa.text("PRAGMA quick_check(1)")).all()
    except StatementTimeoutError as error:
        remedy = "With the gateway stopped, run: sqlite3 FILE 'PRAGMA quick_check'."
        return warning(name, f"nothing wrong so far, but {error}", remedy)
    if said != ["ok"]:
        return problem(name, str(said[0])[:SHOWN_CHARS], _BROKEN)
    return ok(name, f"checked in {time.monotonic() - began:.1f} s")


def _agreements(tx: sa.Connection, settings: Settings) -> list[CheckResult]:
    return [*_store(tx, settings), *_pepper(tx, settings)]


def _store(tx: sa.Connection, settings: Settings) -> Iterator[CheckResult]:
    folder = settings.data_dir / "audio"
    kept, file = stored_value(tx, "store"), folder / IDENTITY_FILE
    if kept is None:
        return
    if file.is_file() and file.read_text() == kept:
        yield ok("recordings' folder", "is the one of this database")
        return
    yield problem(
        "recordings' folder",
        f"{folder} is not the one of this database",
        "Set GATEWAY_DATA_DIR to the folder with the recordings: all processes of one database "
        "share it.",
    )


def _pepper(tx: sa.Connection, settings: Settings) -> Iterator[CheckResult]:
    kept = stored_value(tx, "pepper")
    file = settings.data_dir / "pepper"
    given = [one.get_secret_value().encode() for one in settings.access.peppers]
    if not given and file.is_file():
        given = [file.read_bytes()]
    if kept is not None and kept not in {hash_key(pepper, "pepper") for pepper in given}:
        yield problem(
            "keys' secret",
            "the keys of this database were hashed with another one",
            "Set GATEWAY_ACCESS__PEPPERS to it, or bring back the file pepper of the data folder.",
        )
