"""Writing what must not be lost."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import structlog

from app.db.engine import Database, P, T, Work
from app.errors import DatabaseAway

DATABASE_PAUSE_SECONDS = 2.0
LAST_WRITE_SECONDS = 5.0  # that a cancelled run takes to keep what it has

log = structlog.get_logger()


async def surely(db: Database, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Write, again and again while the database is away.

    A cancelled run tries on as well, but not for ever.
    """
    return await to_the_end(retried(db, work, *args, **kwargs))


async def to_the_end(keeping: Coroutine[Any, Any, T]) -> T:
    """Do what keeps something that was paid for; a cancelled run goes on with it for a moment."""
    task = asyncio.create_task(keeping)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(Exception):  # StaleRun, or TimeoutError: nothing more can be done
            await asyncio.wait_for(task, LAST_WRITE_SECONDS)
        raise


async def retried(db: Database, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Write, again and again while the database is away; for what runs `to_the_end`."""
    while True:
        try:
            return await db.write(work, *args, **kwargs)
        except DatabaseAway:
            log.warning("run.database_away")
            await asyncio.sleep(DATABASE_PAUSE_SECONDS)
