"""The way to an upstream's object store: uploads go there, and results come from there.

Its addresses are told by the upstream, often over plain http. They are followed to the vendor's
own domains at public addresses, or to the host that the operator has put in the vendor's place;
never with a key, and never through a redirect.
"""

import ssl
from collections.abc import Sequence
from functools import cached_property
from ipaddress import ip_network
from urllib.parse import urlsplit

import httpx

from app.net.addresses import AddressRefusedError
from app.net.client import SILENCE_SECONDS, Client, open_client
from app.net.connectivity import is_proxied
from app.net.fetch import Caps, FetchError, fetch
from app.net.fetch import Fault as FetchFault
from app.net.guard import NameUnknownError, Resolver, open_guarded_client
from app.net.http.exchange import Answer, Body, ExchangeError, Fault
from app.net.http.httpx_client import HttpxClient
from app.net.urls import DEFAULT_PORTS, Rules, UrlRefusedError, judge_url

_ANYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_SCHEMES = frozenset({"http", "https"})
_KEPT = 4  # clients: there is one store, or a few of them


class ProviderStorage:
    """`domains` are the vendor's, without a leading dot; `own_host` the one of the operator's."""

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
        self._clients: dict[Rules | None, Client] = {}

    async def close(self) -> None:
        """Close the connections."""
        self._resolver.close()
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    async def download(self, url: str, *, max_bytes: int, deadline_seconds: float) -> bytes:
        """Return what is behind `url`. Raises FetchError."""
        sink, caps = _Memory(), Caps(max_bytes, deadline_seconds, 0)
        try:
            rules = self._rules(url)
        except UrlRefusedError as error:
            raise FetchError(FetchFault.NOT_ALLOWED, str(error)) from None
        await fetch(await self._client(url, rules), url, sink, rules=rules, caps=caps)
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
        except (UrlRefusedError, AddressRefusedError, NameUnknownError) as error:
            raise ExchangeError(Fault.UNREACHABLE, str(error), was_sent=False) from None

    def _rules(self, url: str) -> Rules:
        """Return where this address may lead. Raises UrlRefusedError."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            raise UrlRefusedError("This is not a valid URL.") from None
        if host == self._own_host:
            ports = frozenset({port or DEFAULT_PORTS.get(parts.scheme, 0)})
            return Rules(_SCHEMES, ports, _ANYWHERE)
        if not any(host.endswith(f".{domain}") for domain in self._domains):
            raise UrlRefusedError("The upstream names a store of somebody else's.")
        rules = Rules(_SCHEMES, frozenset(DEFAULT_PORTS.values()))
        judge_url(url, rules)
        return rules

    async def _client(self, url: str, rules: Rules) -> Client:
        # Behind a proxy, names are looked up and addresses judged by it.
        key = None if is_proxied(url) else rules
        if key not in self._clients:
            if len(self._clients) >= _KEPT:
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


class _Memory:
    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, data: bytes) -> None:
        self.data += data

    async def restart(self) -> None:
        self.data.clear()
