"""Whether a host can be reached from here, and if not, what is in the way: for an operator."""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from enum import StrEnum
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from app.net.client import causes_of, open_client
from app.net.http.exchange import Answer

MOST_BYTES = 64 << 10


class ConnectivityProblem(StrEnum):
    """What is in the way, in words that follow a host's name."""

    NAME = "has a name that does not resolve"
    PROXY = "cannot be reached through the proxy"
    TLS = "shows no certificate that can be trusted"
    SILENT = "does not answer in time"
    REJECTED = "takes no connection"
    BROKEN = "answers with something that is not HTTP"


class ObstructedError(Exception):
    """No answer came, because of `obstacle`."""

    def __init__(self, obstacle: ConnectivityProblem) -> None:
        super().__init__(obstacle)
        self.obstacle = obstacle


async def look(
    base_url: str, path: str, *, headers: Mapping[str, str], deadline_seconds: float
) -> Answer:
    """Ask once, over the same way as all calls go, and return whatever answer comes.

    Raises ObstructedError. The body is cut off where it is longer than anything we read of it.
    """
    try:
        async with (
            asyncio.timeout(deadline_seconds),
            open_client(base_url=base_url, silence_seconds=deadline_seconds) as client,
            client.stream("GET", path, headers=dict(headers)) as response,
        ):
            return Answer(response.status_code, dict(response.headers), await _start_of(response))
    except TimeoutError:
        raise ObstructedError(ConnectivityProblem.SILENT) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ObstructedError(_obstacle(error, base_url)) from error


def is_proxied(url: str) -> bool:
    """Tell whether the operator's proxy variables send calls of this address to a proxy."""
    parts = urlsplit(url)
    proxies = getproxies()
    return bool(proxies.get(parts.scheme) or proxies.get("all")) and not proxy_bypass(
        parts.hostname or ""
    )


async def _start_of(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MOST_BYTES:
            break
    return bytes(body[:MOST_BYTES])


def _obstacle(error: Exception, url: str) -> ConnectivityProblem:
    causes = list(causes_of(error))
    if isinstance(error, httpx.TimeoutException):
        return ConnectivityProblem.SILENT
    if isinstance(error, httpx.ProxyError) or is_proxied(url):
        return ConnectivityProblem.PROXY
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return ConnectivityProblem.TLS
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return ConnectivityProblem.NAME
    return (
        ConnectivityProblem.REJECTED
        if isinstance(error, httpx.ConnectError)
        else ConnectivityProblem.BROKEN
    )
