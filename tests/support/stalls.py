"""Stalls of this process, which a fast clock magnifies."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

TICK_SECONDS = 0.005
LEAST_SECONDS = 0.01


class Stall(NamedTuple):
    """A time in which the event loop did not run, by the clock that all processes share."""

    at: float
    seconds: float


@asynccontextmanager
async def stalls() -> AsyncIterator[list[Stall]]:
    """Yield a list to which every stall of this process is added."""
    seen: list[Stall] = []

    async def watch() -> None:
        while True:
            due = time.monotonic() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            if (late := time.monotonic() - due) > LEAST_SECONDS:
                seen.append(Stall(due, late))

    watching = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
