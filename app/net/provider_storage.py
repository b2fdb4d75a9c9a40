"""The object storage of a provider: uploads go there, and results come from there.

Its addresses are named by the provider, often with plain http. They are used if they lead to the
provider's own domains at public addresses, or to the host that the operator has set in its place.
No key is sent there, and no redirect is followed.
"""

import ssl
from collections.abc import Sequence
from functools import cached_property
from ipaddress import ip_network
from urllib.parse import urlsplit

import httpx

from app.net.addresses import AddressNotAllowedError
from app.net.client import SILENCE_SECONDS, Client, open_client
from app.net.connectivity import is_proxied
from app.net.fetch import FetchError, FetchFault, FetchLimits, fetch_file
from app.net.guard import HostNotFoundError, Resolver, open_guarded_client
from app.net.http.exchange import Answer, Body, ExchangeError, Fault
from app.net.http.httpx_client import HttpxClient
from app.net.urls import DEFAULT_PORTS, UrlNotAllowedError, UrlRules, check_url

_ALL_ADDRESSES = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_SCHEMES = frozenset({"http", "https"})
_MAX_CLIENTS = 4  # a provider has one storage host, or a few


class ProviderStorage:
    """`domains` are the provider's, without a leading dot. `own_host` is set by the operator."""

    def __init__(
        self,
        domains: Sequence[str],
        own_host: str = "",
        *,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._silence_seconds = silence_seconds
        self._domains = tuple(domains)
        self._own_host = own_host.lower()
        self._resolver = Resolver()
        self._clients: dict[UrlRules | None, Client] = {}

    async def close(self) -> None:
        """Close the connections."""
        self._resolver.close()
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    async def download(self, url: str, *, max_bytes: int, deadline_seconds: float) -> bytes:
        """Return the file at `url`. Raises FetchError."""
        sink, limits = _MemorySink(), FetchLimits(max_bytes, deadline_seconds, 0)
        try:
            rules = self._rules(url)
        except UrlNotAllowedError as error:
            raise FetchError(FetchFault.NOT_ALLOWED, str(error)) from None
        await fetch_file(await self._client(url, rules), url, sink, rules=rules, limits=limits)
        return bytes(sink.data)

    async def send(
        self, url: str, form: Body, *, deadline_seconds: float, max_bytes: int
    ) -> Answer:
        """Post a form and return the answer. Raises ExchangeError."""
        try:
            client = await self._client(url, self._rules(url))
            return await HttpxClient(client).post(
                url,
                form,
                headers={},
                deadline_seconds=deadline_seconds,
                max_bytes=max_bytes,
            )
        except (UrlNotAllowedError, AddressNotAllowedError, HostNotFoundError) as error:
            raise ExchangeError(Fault.UNREACHABLE, str(error), was_sent=False) from None

    def _rules(self, url: str) -> UrlRules:
        """Return the rules for connections to this URL. Raises UrlNotAllowedError."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            raise UrlNotAllowedError("This is not a valid URL.") from None
        if host == self._own_host:
            ports = frozenset({port or DEFAULT_PORTS.get(parts.scheme, 0)})
            return UrlRules(_SCHEMES, ports, _ALL_ADDRESSES)
        if not any(host.endswith(f".{domain}") for domain in self._domains):
            raise UrlNotAllowedError("The provider names a storage of another domain.")
        rules = UrlRules(_SCHEMES, frozenset(DEFAULT_PORTS.values()))
        check_url(url, rules)
        return rules

    async def _client(self, url: str, rules: UrlRules) -> Client:
        # A proxy resolves the name and decides about the address itself.
        key = None if is_proxied(url) else rules
        if key not in self._clients:
            if len(self._clients) >= _MAX_CLIENTS:
                await self._clients.pop(next(iter(self._clients))).aclose()
            self._clients[key] = (
                open_client(silence_seconds=self._silence_seconds)
                if key is None
                else open_guarded_client(
                    key, self._resolver, tls=self._tls, silence_seconds=self._silence_seconds
                )
            )
        return self._clients[key]

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return httpx.create_ssl_context()


class _MemorySink:
    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, data: bytes) -> None:
        self.data += data

    async def restart(self) -> None:
        self.data.clear()
