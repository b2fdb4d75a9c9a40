"""Alembic's entry point: migrates the given connection, or the configured database."""

import asyncio
from pathlib import Path

import sqlalchemy as sa
from alembic import context

from app.jobs import tables
from app.settings import Settings

target_metadata = tables.metadata


def run(connection: sa.Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=target_metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_on_postgres(address: sa.URL) -> None:
    from app.db.postgres import postgres_engine  # noqa: PLC0415 - load one driver only

    engine = postgres_engine(address, pool=1)
    async with engine.begin() as connection:
        await connection.run_sync(run)
    await engine.dispose()


def main() -> None:
    if (connection := context.config.attributes.get("connection")) is not None:
        run(connection)
        return
    address = sa.make_url(Settings().database_url)
    if address.get_backend_name() == "sqlite":
        from app.db.sqlite import sqlite_engine  # noqa: PLC0415 - load one driver only

        with sqlite_engine(Path(address.database or "")).begin() as connection:
            run(connection)
    else:
        asyncio.run(run_on_postgres(address))


main()
