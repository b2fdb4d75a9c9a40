"""Writing what must not be lost."""

import asyncio
from contextlib import suppress

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
    writing = asyncio.create_task(_again_and_again(db, work, *args, **kwargs))
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        with suppress(Exception):  # StaleRun, or TimeoutError: nothing more can be done
            await asyncio.wait_for(writing, LAST_WRITE_SECONDS)
        raise


async def _again_and_again(db: Database, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    while True:
        try:
            return await db.write(work, *args, **kwargs)
        except DatabaseAway:
            log.warning("run.database_away")
            await asyncio.sleep(DATABASE_PAUSE_SECONDS)
