"""Multipart form bodies with one file, which comes last (RFC 7578)."""

import itertools
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass

from app.net.http.exchange import Body

_ESCAPED = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


@dataclass(frozen=True, slots=True)
class FilePart:
    """The file of a form: `length` bytes. Each call of `chunks` starts at the first byte."""

    file_name: str
    media_type: str
    length: int
    chunks: Callable[[], Iterable[bytes] | AsyncIterable[bytes]]


def multipart_body(fields: Mapping[str, str], file: FilePart) -> Body:
    """Return a form with these fields and the file as its part `file`."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; '
        f'filename="{file.file_name.translate(_ESCAPED)}"\r\n'
        f"Content-Type: {file.media_type}\r\n\r\n"
    )
    before, after = "".join(parts).encode(), f"\r\n--{boundary}--\r\n".encode()

    def chunks() -> Iterable[bytes] | AsyncIterable[bytes]:
        inner = file.chunks()
        if isinstance(inner, AsyncIterable):
            return _enclosed(before, inner, after)
        return itertools.chain((before,), inner, (after,))

    length = len(before) + file.length + len(after)
    return Body(length, f"multipart/form-data; boundary={boundary}", chunks)


async def _enclosed(
    before: bytes, inner: AsyncIterable[bytes], after: bytes
) -> AsyncIterator[bytes]:
    yield before
    async for chunk in inner:
        yield chunk
    yield after
