"""Choice of the database driver by URL."""

import sqlalchemy as sa

from app.db.database import Database


def make_database(
    url: str, *, readers: int = 4, pool: int = 10, exclusive: bool = False
) -> Database:
    """Return the database at `url`, not yet opened.

    `readers` is the number of reading threads on SQLite, `pool` the number of connections on
    PostgreSQL. `exclusive` locks a SQLite file for this process: the service does, short commands
    do not. Raises ValueError for another scheme than sqlite or postgresql.
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
