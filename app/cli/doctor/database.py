"""Checks of the database by `asr-gateway doctor`: usable, migrated, intact, with its own folder."""

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import sqlalchemy as sa

from app.audio.storage.local_store import IDENTITY_FILE
from app.cli.doctor.check import CheckResult, failed, ok, warn
from app.db.connect import DatabaseAddressError, parse_address
from app.db.database import Database
from app.db.failure import BROKEN_FILE_REMEDY, find_cause
from app.db.migrate import SchemaState, is_current, open_database, read_schema_state
from app.db.shared_settings import stored_value
from app.db.time_limits import StatementTimeoutError, statement_timeout
from app.kit.secrets import hash_key
from app.settings import Settings

INTEGRITY_SECONDS = 8.0
SHOWN_CHARS = 200
_SCHEMA_RESULTS = {
    SchemaState.EMPTY: (warn, "not migrated yet", "Run: asr-gateway serve."),
    SchemaState.OLDER: (
        warn,
        "with the schema of an older version",
        "Make a backup, then run asr-gateway serve: it migrates on start.",
    ),
    SchemaState.NEWER: (
        failed,
        "migrated by a newer version",
        "Run the version that migrated it, or restore a backup from before.",
    ),
}


@asynccontextmanager
async def open_if_current(settings: Settings) -> AsyncIterator[Database | None]:
    """Open the database if it is migrated and usable; yield None otherwise."""
    async with AsyncExitStack() as stack:
        db = None
        if _exists(settings):
            try:
                found = await stack.enter_async_context(
                    open_database(settings.database_url, apply_migrations=False)
                )
                db = found if await is_current(found) else None
            except Exception:  # noqa: BLE001 - drivers raise many types while connecting
                db = None  # `check_database` reports it
        yield db


def _sqlite_file(settings: Settings) -> Path | None:
    try:
        address = parse_address(settings.database_url)
    except DatabaseAddressError:
        return None  # opening it reports the fault
    return Path(address.database or "") if address.get_backend_name() == "sqlite" else None


def _exists(settings: Settings) -> bool:
    """Tell whether there is a database to open: opening SQLite's file would create it."""
    file = _sqlite_file(settings)
    return file is None or (file.is_file() and file.stat().st_size > 0)


async def check_database(settings: Settings) -> AsyncIterator[CheckResult]:
    """Check that the database is usable, migrated and intact, and belongs to this data folder."""
    if not _exists(settings):
        yield ok("database", "does not exist yet: `asr-gateway serve` creates it")
        return
    try:
        async with open_database(settings.database_url, apply_migrations=False) as db:
            state = await db.read(read_schema_state)
            version, integrity = await db.read(_inspect_server)
            if state is SchemaState.CURRENT:
                yield ok("database", f"{version}, migrated")
            else:
                result_of, found, remedy = _SCHEMA_RESULTS[state]
                yield result_of("database", f"{version}, {found}", remedy)
            yield integrity
            if state is SchemaState.CURRENT:
                for result in await db.read(_check_shared_settings, settings):
                    yield result
    except Exception as error:  # noqa: BLE001 - drivers raise many types while connecting
        yield _unusable(settings, error)


def _unusable(settings: Settings, error: BaseException) -> CheckResult:
    found, remedy = find_cause(settings.database_url, error)
    return failed("database", found, remedy)


def _inspect_server(tx: sa.Connection) -> tuple[str, CheckResult]:
    """Return the name and version of the database, and the check of its integrity."""
    name = "database integrity"
    if tx.dialect.name != "sqlite":
        version = f"PostgreSQL {tx.scalar(sa.text('SHOW server_version'))}"
        return version, ok(name, "ensured by the server")
    version, began = f"SQLite {sqlite3.sqlite_version}", time.monotonic()
    try:
        with statement_timeout(tx, INTEGRITY_SECONDS):
            answers = tx.scalars(sa.text("PRAGMA quick_check(1)")).all()
    except StatementTimeoutError as error:
        remedy = "With the gateway stopped, run: sqlite3 FILE 'PRAGMA quick_check'."
        return version, warn(name, f"no error so far, but the check was {error}", remedy)
    if answers != ["ok"]:
        return version, failed(name, str(answers[0])[:SHOWN_CHARS], BROKEN_FILE_REMEDY)
    return version, ok(name, f"checked in {time.monotonic() - began:.1f} s")


def _check_shared_settings(tx: sa.Connection, settings: Settings) -> list[CheckResult]:
    """Check that the folder of recordings and the key secret are those of the database."""
    folder = settings.data_dir / "audio"
    identity, file = stored_value(tx, "store"), folder / IDENTITY_FILE
    name, results = "recordings' folder", []
    if identity is not None and file.is_file() and file.read_text() == identity:
        results.append(ok(name, "is the one of this database"))
    elif identity is not None:
        found = f"{folder} is not the one of this database"
        remedy = (
            "Set GATEWAY_DATA_DIR to the folder with the recordings. All processes of one database "
            "share it."
        )
        results.append(failed(name, found, remedy))
    pepper_mark, pepper_file = stored_value(tx, "pepper"), settings.data_dir / "pepper"
    peppers = [one.get_secret_value().encode() for one in settings.access.peppers]
    if not peppers and pepper_file.is_file():
        peppers = [pepper_file.read_bytes()]
    if pepper_mark is not None and pepper_mark not in {hash_key(one, "pepper") for one in peppers}:
        found = "the keys of this database were hashed with another secret"
        remedy = "Set GATEWAY_ACCESS__PEPPERS to it, or restore the file pepper of the data folder."
        results.append(failed("keys' secret", found, remedy))
    return results
