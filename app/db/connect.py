"""Choice of the database driver by URL."""

import sqlalchemy as sa

from app.db.database import Database


def make_database(
    url: str, *, readers: int = 4, pool: int = 10, exclusive: bool = False
) -> Database:
    """Return the database at `url`, not yet opened.

    `exclusive` claims a SQLite file for this process: the service does, short commands do not.
    Raises ValueError for a scheme that is neither SQLite's nor PostgreSQL's.
    """
    address = sa.make_url(url)
    backend = address.get_backend_name()
    if backend == "sqlite":
        from app.db.sqlite import SqliteDatabase  # noqa: PLC0415 - load one driver only

        return SqliteDatabase(address.database or "", readers=readers, exclusive=exclusive)
    if backend in {"postgresql", "postgres"}:
        from app.db.postgres import PostgresDatabase  # noqa: PLC0415 - load one driver only

        return PostgresDatabase(address, pool=pool)
    raise ValueError(f"the database must be sqlite:// or postgresql://, not {backend}://")
