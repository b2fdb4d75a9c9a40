"""A client for strangers' URLs: it connects to the address it judged, and to no other.

A name is looked up once for a connection and every answer is judged, so neither a name that
answers differently the next moment nor one bad answer among good ones leads inside. It sits
below HTTP: redirects, retries and whoever uses the client pass it whether or not they think of it.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore
import httpx

from app.net.addresses import judge, literal_of
from app.net.client import CONNECT_SECONDS, SILENCE_SECONDS, Client
from app.net.urls import Rules, UrlRefusedError

MOST_ADDRESSES = 3  # of one name that are tried
LOOKUPS_AT_ONCE = 16
USER_AGENT = "asr-gateway"

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns a name's addresses; raises OSError where it has none."""


class NameUnknownError(Exception):
    """A host name has no address. `may_pass`: it is the resolver that did not answer."""

    def __init__(self, *, may_pass: bool) -> None:
        super().__init__("the host name has no address")
        self.may_pass = may_pass


class Guard(httpcore.AsyncNetworkBackend):
    """Resolves once, judges every answer, connects to what was judged."""

    def __init__(
        self, rules: Rules, resolve: Resolve, connector: httpcore.AsyncNetworkBackend
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
        """Connect to a name or a spelled address.

        Raises UrlRefusedError, AddressRefusedError, NameUnknownError and httpcore's errors.
        """
        if port not in self._rules.ports:
            raise UrlRefusedError("The URL's port is not allowed here.")
        judged = await self._judged(host, port, timeout)
        failed: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in judged[:MOST_ADDRESSES]:
            try:
                return await self._connector.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or NameUnknownError(may_pass=False)

    async def connect_unix_socket(
        self, _path: str, _timeout: float | None = None, _options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: no URL of a stranger's leads into a file."""
        raise UrlRefusedError("No URL leads to a socket file.")

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)

    async def _judged(self, host: str, port: int, seconds: float | None) -> list[str]:
        literal = literal_of(host)
        if literal is not None:
            return [judge(literal, self._rules.allowed)]
        try:
            async with asyncio.timeout(seconds):
                answers = await self._resolve(host, port)
        except TimeoutError:
            raise NameUnknownError(may_pass=True) from None
        except (OSError, UnicodeError) as error:
            code = error.errno if isinstance(error, socket.gaierror) else None
            raise NameUnknownError(may_pass=code == socket.EAI_AGAIN) from None
        judged = [judge(answer, self._rules.allowed) for answer in answers]
        return list(dict.fromkeys(judged))


class Resolver:
    """The system's resolver in threads of its own: slow names hold up other lookups at most."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUPS_AT_ONCE, thread_name_prefix="lookup")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return a name's addresses. Raises OSError."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _look_up, host, port)

    def close(self) -> None:
        """Wait for nothing that is still being looked up."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _GuardedTransport(httpx.AsyncHTTPTransport):
    def __init__(self, guard: Guard, tls: ssl.SSLContext) -> None:
        super().__init__(verify=tls, trust_env=False)
        # httpx has no parameter for the network backend; a pool kept from one stranger's URL to
        # the next would save a handshake and cost a second look at where it leads.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=None,
            max_keepalive_connections=0,
            network_backend=guard,
        )


def open_guarded_client(
    rules: Rules,
    resolve: Resolve,
    *,
    connector: httpcore.AsyncNetworkBackend | None = None,
    tls: ssl.SSLContext | None = None,
    connect_seconds: float = CONNECT_SECONDS,
    silence_seconds: float = SILENCE_SECONDS,
) -> Client:
    """Return a client that keeps no cookies, knows no proxy and follows no redirect by itself.

    TLS is checked against the URL's name; SSL_CERT_FILE may name the operator's own authorities.
    """
    guard = Guard(rules, resolve, connector or httpcore.AnyIOBackend())
    return httpx.AsyncClient(
        transport=_GuardedTransport(guard, tls or httpx.create_ssl_context()),
        timeout=httpx.Timeout(silence_seconds, connect=connect_seconds),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        # A compressed body would make every size a lie.
        headers={"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"},
        follow_redirects=False,
        trust_env=False,
    )


def _look_up(host: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
