"""Where the audio of a call lies: in a data URI, behind an address, or in the service's store."""

import base64
import binascii
import ipaddress
from collections.abc import Mapping

import httpx

from tests.twin.models import Model
from tests.twin.refusals import Refusal, bad_url, too_large, undelivered

FETCH_SECONDS = 10


async def audio_bytes(
    place: str, model: Model, *, remote: Mapping[str, bytes], may_resolve: bool
) -> bytes:
    """Return what lies there; `remote` is the twin's internet, beside the real loopback."""
    if place.startswith("data:"):
        return from_data_uri(place, model)
    if place.startswith("oss://") and not may_resolve:
        raise Refusal(400, "InvalidParameter.DataInspection", bad_url().message)
    if not place.startswith(("http://", "https://", "oss://")):
        raise bad_url()
    data = remote[place] if place in remote else await _fetched(place)
    if len(data) > model.file_bytes:
        raise too_large()
    return data


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


async def _fetched(url: str) -> bytes:
    """Fetch over real sockets, from this machine only."""
    if not _is_loopback(httpx.URL(url).host):
        raise undelivered()
    try:
        async with httpx.AsyncClient(follow_redirects=True, timeout=FETCH_SECONDS) as client:
            answer = await client.get(url)
            answer.raise_for_status()
    except httpx.HTTPError:
        raise undelivered() from None
    return answer.content


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
