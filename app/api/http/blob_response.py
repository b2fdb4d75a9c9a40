"""A stored recording as an answer: all of it, or the bytes of a Range header."""

from collections.abc import AsyncIterator

from fastapi import Response
from fastapi.responses import StreamingResponse

from app.api.http.byte_range import parse_range
from app.audio.storage.blob_store import BlobStore

MEDIA_TYPE = "application/octet-stream"


async def blob_response(
    store: BlobStore, key: str, size: int, *, name: str, asked: str | None, only_head: bool = False
) -> Response:
    """Answer with the recording, under this file's name. Raises RangeNotSatisfiable.

    Raises RecordingMissing as well; `only_head` leaves the bytes out.
    """
    part = parse_range(asked, size)
    start, end = part or (0, size)
    status = 200 if part is None else 206
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - start),
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    if only_head:
        return Response(status_code=status, media_type=MEDIA_TYPE, headers=headers)
    blocks = store.read(key, start, end)
    first = await anext(blocks, b"")  # a recording that is not there is an error, not half a body
    return StreamingResponse(
        _with_first(first, blocks), status_code=status, media_type=MEDIA_TYPE, headers=headers
    )


async def _with_first(first: bytes, others: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for block in others:
        yield block
