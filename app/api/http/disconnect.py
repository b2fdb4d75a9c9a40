"""Work that is cancelled when the client closes its connection."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.types import Receive


async def run_unless_disconnected(receive: Receive, work: Coroutine[Any, Any, Any]) -> bool:
    """Run `work` to its end and return True. Cancel it and return False if the client disconnects.

    The request body must have been read. Raises the exceptions of `work`.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(wait_for_disconnect(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and leaving.exception() is None:
            return False
        await working
        return True
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def wait_for_disconnect(receive: Receive) -> None:
    """Return once the client has disconnected; the request body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
