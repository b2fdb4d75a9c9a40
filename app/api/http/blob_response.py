"""A stored recording as a response: the whole file, or the bytes of a Range header."""

from collections.abc import AsyncIterator

from fastapi import Response
from fastapi.responses import StreamingResponse

from app.api.http.byte_range import parse_range
from app.audio.storage.blob_store import BlobStore

MEDIA_TYPE = "application/octet-stream"


async def blob_response(
    store: BlobStore,
    key: str,
    size: int,
    *,
    name: str,
    range_header: str | None,
    only_head: bool = False,
) -> Response:
    """Return a response with the recording, or with its headers alone for `only_head`.

    Raises RangeNotSatisfiable and AudioStorageError.
    """
    part = parse_range(range_header, size)
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
    first = await anext(blocks, b"")  # a missing file is an error before the response starts

    async def body() -> AsyncIterator[bytes]:
        yield first
        async for block in blocks:
            yield block

    return StreamingResponse(body(), status_code=status, media_type=MEDIA_TYPE, headers=headers)
