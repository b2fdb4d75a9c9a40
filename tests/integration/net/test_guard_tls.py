"""The address guard over TLS: the certificate is checked against the host name of the URL.

Covers: app.net.guard, app.net.fetch
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from app.net.client import Client
from app.net.fetch import FetchError, FetchFault, FetchLimits, fetch_file
from app.net.guard import open_guarded_client
from app.net.urls import UrlRules
from tests.support.certificates import make_certificate
from tests.support.web_server import answer, serving

pytestmark = pytest.mark.anyio
LOOPBACK = ip_network("127.0.0.1/32")
CAPS = FetchLimits(max_bytes=1000, deadline_seconds=10, max_redirects=5)


class DiscardingSink:
    async def write(self, data: bytes) -> None:
        pass

    async def restart(self) -> None:
        pass


async def resolve_to_loopback(_host: str, _port: int) -> list[str]:
    return ["127.0.0.1"]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for good.test and its key, in one file."""
    return make_certificate(tmp_path_factory.mktemp("tls"), "good.test")


@asynccontextmanager
async def tls_server(
    certificate: Path,
) -> AsyncIterator[tuple[Any, list[str | None], Client, UrlRules]]:
    """Yield a TLS server on loopback, the server names (SNI) it received, a client, its rules."""
    server_names: list[str | None] = []
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(certificate)
    theirs.sni_callback = lambda _socket, name, _context: server_names.append(name)
    ours = ssl.create_default_context(cafile=certificate)
    async with serving(tls=theirs) as source:
        source.pages["/a"] = answer("200 OK", b"sound")
        rules = UrlRules(frozenset({"https"}), frozenset({source.port}), (LOOPBACK,))
        async with open_guarded_client(rules, resolve_to_loopback, tls=ours) as client:
            yield source, server_names, client, rules


async def test_tls_uses_the_host_name_and_not_the_address(certificate: Path) -> None:
    async with tls_server(certificate) as (source, server_names, client, rules):
        url = source.url("/a", scheme="https", host="good.test")
        assert await fetch_file(client, url, DiscardingSink(), rules=rules, limits=CAPS) == 5
        assert server_names == ["good.test"]
        assert source.asked[0].headers["host"] == f"good.test:{source.port}"


async def test_a_certificate_for_another_name_is_refused(certificate: Path) -> None:
    async with tls_server(certificate) as (source, server_names, client, rules):
        url = source.url("/a", scheme="https", host="other.test")
        with pytest.raises(FetchError) as caught:
            await fetch_file(client, url, DiscardingSink(), rules=rules, limits=CAPS)
        assert caught.value.fault is FetchFault.NO_TRUST
        assert server_names == ["other.test"]
        assert source.asked == []
        await asyncio.sleep(0)
