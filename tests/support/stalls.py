"""How long this machine lets a process stand still: what a fast clock magnifies."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

TICK_SECONDS = 0.005


@asynccontextmanager
async def stalls() -> AsyncIterator[list[float]]:
    """Lend a list of the seconds by which a task of the loop woke late, again and again."""
    late: list[float] = []

    async def watch() -> None:
        while True:
            due = time.monotonic() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            late.append(time.monotonic() - due)

    watching = asyncio.create_task(watch())
    try:
        yield late
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
