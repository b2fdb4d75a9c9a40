"""Stores the audio of a JSON body that contains it as a `data:` URI (RFC 2397)."""

import asyncio
import binascii
import re
from collections.abc import Awaitable, Callable
from urllib.parse import unquote_to_bytes

from app.audio.storage.blob_store import BlobUpload
from app.errors import InvalidParameter

SCHEME = "data:"
MAX_HEAD = 256  # characters before the data
MAX_PERCENT_CHARS = 64 * 1024  # of data that is not base64
MAX_PADDING = 2
# A media type may contain commas, as in `codecs=vp8,opus`: the data begins after `;base64,` if the
# head has that.
_HEAD = re.compile(
    rf"data:(?:(?P<type>[^\x00]{{0,{MAX_HEAD}}}?);\s*(?P<base64>base64)\s*,"
    rf"|(?P<plain>[^,]{{0,{MAX_HEAD}}}),)",
    re.IGNORECASE,
)
_ESCAPES = (
    *(("%3D", "="), ("%2B", "+"), ("%2F", "/"), ("%0D", ""), ("%0A", "")),
    *(("%20", ""), ("%09", ""), ("%2D", "-"), ("%5F", "_")),
)
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_WHITE_SPACE = b" \t\r\n\f"


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
    """Decode a data URI. White space, missing padding and the URL-safe alphabet are accepted.

    Raises InvalidParameter.
    """
    head = _HEAD.match(uri)
    if head is None:
        raise InvalidParameter("`audio` is not a data: URI of the form data:audio/wav;base64,….")
    payload = uri[head.end() :]
    if head["base64"] is None:
        if len(payload) > MAX_PERCENT_CHARS:
            raise InvalidParameter(
                f"A data: URI with more than {MAX_PERCENT_CHARS:,} characters must be base64: "
                "data:audio/wav;base64,…."
            )
        return unquote_to_bytes(payload)
    # Not `unquote_to_bytes`: it makes an object for each percent sign.
    for escape, character in _ESCAPES:
        if "%" not in payload:
            break
        payload = payload.replace(escape, character).replace(escape.lower(), character)
    try:
        encoded = payload.encode("ascii").translate(_URL_SAFE, _WHITE_SPACE)
        padding = len(encoded) - len(encoded.rstrip(b"="))
        if padding > MAX_PADDING:
            raise binascii.Error
        encoded = encoded[: len(encoded) - padding]
        return binascii.a2b_base64(encoded + b"=" * (-len(encoded) % 4), strict_mode=True)
    except ValueError:
        raise InvalidParameter("The base64 in `audio` is invalid. Use standard base64.") from None


def media_type_in(uri: str) -> str:
    """Return the media type of a data URI, such as `audio/L16;rate=8000`. It may be empty."""
    head = _HEAD.match(uri)
    return "" if head is None else (head["type"] or head["plain"] or "").strip()


def is_data_uri(text: str) -> bool:
    return text[: len(SCHEME)].lower() == SCHEME
