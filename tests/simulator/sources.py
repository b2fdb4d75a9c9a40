"""The audio of a call: a data URI, a URL, or an upload in the service's store."""

import base64
import binascii
import ipaddress
import ssl
from collections.abc import Callable, Mapping
from functools import cache

import httpx

from tests.simulator.errors import ApiError, bad_url, too_large, undelivered
from tests.simulator.models import Model

FETCH_SECONDS = 10
_FILE_CODES = {403: "FILE_403_FORBIDDEN", 404: "FILE_404_NOT_FOUND"}
Stored = Callable[[str], bytes]


async def audio_bytes(
    place: str,
    model: Model,
    *,
    remote: Mapping[str, bytes],
    stored: Stored,
    may_resolve: bool,
) -> bytes:
    """Return the bytes of the audio.

    `remote` has the content of non-loopback URLs. `stored` finds an upload of the caller by its
    `oss://` address, or raises an error.
    """
    if place.startswith("data:"):
        return from_data_uri(place, model)
    check_address(place, may_resolve=may_resolve)
    if place in remote:
        data = remote[place]
    else:
        data = stored(place) if place.startswith("oss://") else await _fetched(place, model)
    if len(data) > model.file_bytes:
        raise too_large()
    return data


def check_address(place: str, *, may_resolve: bool) -> None:
    """Raise an error for an invalid address, or `oss://` without the header to resolve it."""
    if place.startswith("oss://") and not may_resolve:
        raise ApiError(400, "InvalidParameter.DataInspection", bad_url().message)
    if not place.startswith(("http://", "https://", "oss://")):
        raise bad_url()


def from_data_uri(uri: str, model: Model) -> bytes:
    most = model.data_uri_bytes
    if len(uri) > most:
        raise too_large(f"Exceeded limit on max bytes per data-uri item : {most}")
    head, _, body = uri.partition(",")
    if not head.endswith(";base64"):
        raise bad_url()
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        raise bad_url() from None


async def _fetched(url: str, model: Model) -> bytes:
    """Fetch over real sockets from loopback, at most as many bytes as the model accepts."""
    hooks = {"request": [_check_loopback]}
    try:
        async with (
            httpx.AsyncClient(
                follow_redirects=True, timeout=FETCH_SECONDS, event_hooks=hooks, verify=_trusted()
            ) as client,
            client.stream("GET", url) as answer,
        ):
            if answer.is_error:
                raise undelivered(_file_code(answer.status_code))
            return await _bounded(answer, model.file_bytes)
    except httpx.InvalidURL:
        raise undelivered("REQUEST_INVALID_FILE_URL_VALUE") from None
    except httpx.HTTPError:
        raise undelivered() from None


@cache
def _trusted() -> ssl.SSLContext:
    """Return one TLS context for all fetches, because its creation is slow."""
    return ssl.create_default_context()


async def _bounded(answer: httpx.Response, most: int) -> bytes:
    if int(answer.headers.get("content-length", 0)) > most:
        raise too_large()
    data = bytearray()
    async for chunk in answer.aiter_bytes():
        data += chunk
        if len(data) > most:
            raise too_large()
    return bytes(data)


def _file_code(status: int) -> str:
    return "FILE_SERVER_ERROR" if status >= 500 else _FILE_CODES.get(status, "FILE_DOWNLOAD_FAILED")


async def _check_loopback(request: httpx.Request) -> None:
    """Raise an error for a non-loopback address, also in a redirect."""
    try:
        is_near = ipaddress.ip_address(request.url.host).is_loopback
    except ValueError:
        is_near = request.url.host == "localhost"
    if not is_near:
        raise undelivered()
