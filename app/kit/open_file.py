"""Opening of files off the event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path
from typing import Any


@asynccontextmanager
async def open_file(path: Path) -> AsyncIterator[FileIO]:
    """Open a file for reading. It is closed even if the caller is cancelled while it is opened.

    Raises OSError.
    """
    opening = asyncio.ensure_future(asyncio.to_thread(FileIO, path))
    try:
        file = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(close_unused)
        raise
    with file:
        yield file


def close_unused(opening: "asyncio.Future[Any]") -> None:
    """Close the file or socket that an attempt has opened after its caller went away."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
