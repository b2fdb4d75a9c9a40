"""Stores the audio of a JSON body that contains it as a `data:` URI (RFC 2397)."""

import asyncio
import binascii
from collections.abc import Awaitable, Callable
from urllib.parse import unquote_to_bytes

from app.audio.storage.blob_store import BlobUpload
from app.errors import InvalidParameter

SCHEME = "data:"
MAX_HEAD = 256  # characters before the comma


async def receive_data_uri(uri: str, begin: Callable[[], Awaitable[BlobUpload]]) -> BlobUpload:
    """Decode `data:[<media type>][;base64],<data>`."""
    data = await asyncio.to_thread(decode_data_uri, uri)
    upload = await begin()
    try:
        await upload.write(data)
    except BaseException:
        await upload.discard()
        raise
    return upload


def decode_data_uri(uri: str) -> bytes:
    comma = uri.find(",", 0, MAX_HEAD)
    if not is_data_uri(uri) or comma < 0:
        raise InvalidParameter("`audio` is not a data: URI of the form data:audio/wav;base64,….")
    payload = uri[comma + 1 :]
    if not uri[:comma].lower().rstrip().endswith(";base64"):
        return unquote_to_bytes(payload)
    encoded = unquote_to_bytes(payload) if "%" in payload else payload
    try:
        return binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:
        raise InvalidParameter(
            "The base64 in `audio` is invalid. Use standard base64 with padding and no spaces."
        ) from None


def media_type_in(uri: str) -> str:
    """Return the media type of a data URI, such as `audio/L16;rate=8000`. It may be empty."""
    return uri[len(SCHEME) : max(0, uri.find(",", 0, MAX_HEAD))].strip()


def is_data_uri(text: str) -> bool:
    return text[: len(SCHEME)].lower() == SCHEME
