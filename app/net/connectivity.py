"""Checks whether a host can be reached from this machine, and if not, for which reason."""

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

MAX_BYTES = 64 << 10


class ConnectivityProblem(StrEnum):
    """The reason, as the end of a sentence that begins with the host."""

    NAME = "has a name that does not resolve"
    PROXY = "cannot be reached through the proxy"
    TLS = "shows no certificate that can be trusted"
    SILENT = "does not answer in time"
    REJECTED = "takes no connection"
    BROKEN = "answers with something that is not HTTP"


class ConnectivityError(Exception):
    """No answer came, because of `problem`."""

    def __init__(self, problem: ConnectivityProblem) -> None:
        super().__init__(problem)
        self.problem = problem


async def try_request(
    base_url: str, path: str, *, headers: Mapping[str, str], deadline_seconds: float
) -> Answer:
    """Send one request, through the same proxies as all calls, and return any answer.

    Raises ConnectivityError. The body is cut off after 64 KiB.
    """
    try:
        async with (
            asyncio.timeout(deadline_seconds),
            open_client(base_url=base_url, silence_seconds=deadline_seconds) as client,
            client.stream("GET", path, headers=dict(headers)) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    break
            return Answer(response.status_code, dict(response.headers), bytes(body[:MAX_BYTES]))
    except TimeoutError:
        raise ConnectivityError(ConnectivityProblem.SILENT) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        causes = list(causes_of(error))
        if isinstance(error, httpx.TimeoutException):
            problem = ConnectivityProblem.SILENT
        elif isinstance(error, httpx.ProxyError) or is_proxied(base_url):
            problem = ConnectivityProblem.PROXY
        elif any(isinstance(cause, ssl.SSLError) for cause in causes):
            problem = ConnectivityProblem.TLS
        elif any(isinstance(cause, socket.gaierror) for cause in causes):
            problem = ConnectivityProblem.NAME
        elif isinstance(error, httpx.ConnectError):
            problem = ConnectivityProblem.REJECTED
        else:
            problem = ConnectivityProblem.BROKEN
        raise ConnectivityError(problem) from error


def is_proxied(url: str) -> bool:
    """Return whether the operator's proxy variables send requests for this address to a proxy."""
    parts = urlsplit(url)
    proxies = getproxies()
    return bool(proxies.get(parts.scheme) or proxies.get("all")) and not proxy_bypass(
        parts.hostname or ""
    )
