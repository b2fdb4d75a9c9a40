"""Opening a file without blocking the loop, and without leaving it open."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path


@asynccontextmanager
async def open_file(path: Path) -> AsyncIterator[FileIO]:
    """Lend an open file, to be read. It is closed even where its caller is cancelled meanwhile.

    Raises OSError.
    """
    opening = asyncio.ensure_future(asyncio.to_thread(FileIO, path))
    try:
        file = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise
    with file:
        yield file


def _close(opening: "asyncio.Future[FileIO]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
