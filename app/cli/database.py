"""The database for commands that work on it directly."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.db.database import Database
from app.db.migrate import open_database
from app.settings import Settings

T = TypeVar("T")


def with_database(work: Callable[[Database], Awaitable[T]]) -> T:
    """Open the database of the settings, migrated, and return the result of `work` with it."""

    async def run() -> T:
        async with open_database(Settings().database_url) as db:
            return await work(db)

    return asyncio.run(run())
