"""An httpx client for clients' URLs that connects only to addresses it has checked.

A name is looked up once for each connection and every address is checked. So a name that resolves
differently a moment later, or to one private address among public ones, leads nowhere. The guard is
below HTTP: every redirect, every retry and every caller passes it.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore
import httpx

from app.net.addresses import address_in, check_ip_address
from app.net.client import CONNECT_SECONDS, SILENCE_SECONDS, Client
from app.net.urls import UrlNotAllowedError, UrlRules

MAX_ADDRESSES = 3  # of one name that are tried
MAX_CONCURRENT_LOOKUPS = 16
USER_AGENT = "asr-gateway"

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a name. Raises OSError if it has none."""


class HostNotFoundError(Exception):
    """A host name has no address. `is_transient`: the resolver did not answer."""

    def __init__(self, *, is_transient: bool) -> None:
        super().__init__("the host name has no address")
        self.is_transient = is_transient


class AddressGuard(httpcore.AsyncNetworkBackend):
    """Resolves a name once, checks every address, and connects to the checked addresses."""

    def __init__(
        self, rules: UrlRules, resolve: Resolve, connector: httpcore.AsyncNetworkBackend
    ) -> None:
        self._rules = rules
        self._resolve = resolve
        self._connector = connector

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a name or an address.

        Raises UrlNotAllowedError, AddressNotAllowedError, HostNotFoundError and httpcore's errors.
        """
        if port not in self._rules.ports:
            raise UrlNotAllowedError("The port of the URL is not allowed.")
        checked = await self._checked(host, port, timeout)
        failed: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in checked[:MAX_ADDRESSES]:
            try:
                return await self._connector.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or HostNotFoundError(is_transient=False)

    async def connect_unix_socket(
        self, _path: str, _timeout: float | None = None, _options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Raise UrlNotAllowedError: a URL never leads to a socket file."""
        raise UrlNotAllowedError("A URL must not lead to a socket file.")

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)

    async def _checked(self, host: str, port: int, seconds: float | None) -> list[str]:
        address = address_in(host)
        if address is not None:
            return [check_ip_address(address, self._rules.allowed)]
        try:
            async with asyncio.timeout(seconds):
                answers = await self._resolve(host, port)
        except TimeoutError:
            raise HostNotFoundError(is_transient=True) from None
        except (OSError, UnicodeError) as error:
            code = error.errno if isinstance(error, socket.gaierror) else None
            raise HostNotFoundError(is_transient=code == socket.EAI_AGAIN) from None
        checked = [check_ip_address(answer, self._rules.allowed) for answer in answers]
        return list(dict.fromkeys(checked))


class Resolver:
    """The system's resolver, in own threads: slow names delay other lookups only."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MAX_CONCURRENT_LOOKUPS, thread_name_prefix="lookup")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a name. Raises OSError."""
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [str(address[0]) for *_, address in found]

    def close(self) -> None:
        """Cancel the lookups. Does not wait for running ones."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _GuardedTransport(httpx.AsyncHTTPTransport):
    def __init__(self, guard: AddressGuard, tls: ssl.SSLContext) -> None:
        super().__init__(verify=tls, trust_env=False)
        # httpx has no parameter for the network backend. Connections are not kept: a kept one
        # would skip the address check of the next URL.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=None,
            max_keepalive_connections=0,
            network_backend=guard,
        )


def open_guarded_client(
    rules: UrlRules,
    resolve: Resolve,
    *,
    connector: httpcore.AsyncNetworkBackend | None = None,
    tls: ssl.SSLContext | None = None,
    connect_seconds: float = CONNECT_SECONDS,
    silence_seconds: float = SILENCE_SECONDS,
) -> Client:
    """Return a client with guarded connections and without cookies, proxies and redirects.

    The certificate is verified for the name in the URL. SSL_CERT_FILE adds the operator's own
    authorities.
    """
    guard = AddressGuard(rules, resolve, connector or httpcore.AnyIOBackend())
    return httpx.AsyncClient(
        transport=_GuardedTransport(guard, tls or httpx.create_ssl_context()),
        timeout=httpx.Timeout(silence_seconds, connect=connect_seconds),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        # The size of a compressed body would be unknown.
        headers={"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"},
        follow_redirects=False,
        trust_env=False,
    )
