"""The address guard: no URL leads to a connection to a private address.

The tests look at the connections that were made, not only at the errors.

Covers: app.net.guard, app.net.addresses, app.net.urls
"""

import socket
import ssl
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

import httpcore
import httpx
import pytest

from app.net import fetch as fetching
from app.net.addresses import AddressNotAllowedError, address_in, check_ip_address
from app.net.client import Client
from app.net.fetch import REDIRECTS, FetchError, FetchFault, FetchLimits, fetch_file
from app.net.guard import HostNotFoundError, open_guarded_client
from app.net.urls import UrlNotAllowedError, UrlRules, check_url
from tests.unit.net.hostile import GOOD, HOSTILE, spellings

pytestmark = pytest.mark.anyio

PUBLIC = "47.246.0.1"
LOOPBACK = ip_network("127.0.0.1/32")
RULES = UrlRules(frozenset({"http", "https"}), frozenset({80, 443}))
CAPS = FetchLimits(max_bytes=1000, deadline_seconds=10, max_redirects=5)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"

Names = dict[str, list[Sequence[str]]]


def to(target: str, code: int = 302) -> bytes:
    return f"HTTP/1.1 {code} x\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()


@dataclass
class World(httpcore.AsyncNetworkBackend):
    """A network in memory: names with lookup results in turn, servers with answers."""

    names: Names = field(default_factory=dict)
    says: list[bytes] = field(default_factory=list)
    connected: list[tuple[str, int]] = field(default_factory=list)
    lookups: list[str] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)

    async def resolve(self, host: str, _port: int) -> Sequence[str]:
        self.lookups.append(host)
        answers = self.names.get(host.lower().removesuffix("."))
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def connect_tcp(
        self, host: str, port: int, *_rest: Any, **_named: Any
    ) -> httpcore.AsyncNetworkStream:
        self.connected.append((host, port))
        if host in self.dead:
            raise httpcore.ConnectError("refused")
        return httpcore.AsyncMockStream([self.says.pop(0) if self.says else OK])

    def begin(self, names: Names, says: Sequence[bytes]) -> None:
        """Replace the network."""
        self.names = {name: list(answers) for name, answers in names.items()}
        self.says, self.connected, self.lookups = list(says), [], []

    @property
    def inside(self) -> list[str]:
        """The private addresses to which connections were made."""
        return [host for host, _ in self.connected if host not in {PUBLIC, *GOOD}]


class Nowhere:
    async def write(self, data: bytes) -> None:
        pass

    async def restart(self) -> None:
        pass


class Tried:
    """Sends URLs through the fetch, and through the guard without the fetch's own check."""

    def __init__(self, client: Client, world: World) -> None:
        self.cases = 0
        self.opened: list[tuple[str, list[str]]] = []
        self.unrefused: list[str] = []
        self._client = client
        self._world = world

    async def url(self, way: str, url: str, names: Names, says: Sequence[bytes] = ()) -> None:
        for send in (self._fetch, self._send_unjudged):
            self.cases += 1
            self._world.begin(names, says)
            if not await send(url):
                self.unrefused.append(f"{way} {url}")
            if self._world.inside:
                self.opened.append((f"{way} {url}", self._world.inside))

    async def _fetch(self, url: str) -> bool:
        try:
            await fetch_file(self._client, url, Nowhere(), rules=RULES, limits=CAPS)
        except FetchError as error:
            return error.fault in {FetchFault.NOT_ALLOWED, FetchFault.NO_NAME}
        return False

    async def _send_unjudged(self, url: str) -> bool:
        try:
            await self._client.get(url, follow_redirects=True)
        except (UrlNotAllowedError, AddressNotAllowedError, HostNotFoundError):
            return True
        except (httpx.InvalidURL, httpx.HTTPError):
            return True
        return False


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def ways_of_a_name(address: str) -> Iterable[tuple[str, list[Sequence[str]], list[bytes]]]:
    """Yield lookup results and server answers that lead to the address."""
    kind = "A" if ":" not in address else "AAAA"
    yield f"{kind} record", [[address]], []
    yield "good answer first", [[PUBLIC, address]], []
    yield "good answer last", [[address, PUBLIC]], []
    yield "fourth answer", [[*GOOD[:3], address]], []
    yield "rebinding at a redirect", [[PUBLIC], [address]], [to("/again")]


@pytest.mark.timeout(300)
async def test_no_private_address_is_connected_to(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "PAUSES", ())
    world = World()
    public: Names = {"public.test": [[PUBLIC]]}
    async with open_guarded_client(RULES, world.resolve, connector=world, tls=tls) as client:
        tried = Tried(client, world)
        for address in HOSTILE:
            for host in spellings(address):
                await tried.url("direct", f"https://{host}/a.mp3", public)
                url = f"http://{host}/a.mp3"
                await tried.url("direct", url, public)
                for code in REDIRECTS:
                    hop = f"http://public.test/?{code}={host}"
                    await tried.url("redirect", hop, public, [to(url, code)])
            for way, answers, says in ways_of_a_name(address):
                names = {**public, "name.test": answers}
                await tried.url(f"{way} {address}", "http://name.test/", names, says)
                for code in REDIRECTS:
                    hops = [to("http://name.test/", code), *says]
                    await tried.url(f"{way} {address} {code}", "http://public.test/", names, hops)
    sys.stdout.write(f"{tried.cases} cases, {len(tried.opened)} connections inside\n")
    assert tried.opened == []
    assert tried.unrefused == []


async def test_each_attempt_is_checked_again(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "PAUSES", (0.0,))
    for address in HOSTILE:
        world = World({"name.test": [[PUBLIC], [address]]}, [CUT])
        with pytest.raises(FetchError) as caught:
            await fetched(world, "http://name.test/", tls)
        assert caught.value.fault is FetchFault.NOT_ALLOWED, address
        assert world.connected == [(PUBLIC, 80)]


async def fetched(world: World, url: str, tls: ssl.SSLContext) -> int:
    async with open_guarded_client(RULES, world.resolve, connector=world, tls=tls) as client:
        return await fetch_file(client, url, Nowhere(), rules=RULES, limits=CAPS)


@pytest.mark.parametrize("address", HOSTILE)
def test_hostile_addresses_are_refused(address: str) -> None:
    with pytest.raises(AddressNotAllowedError):
        check_ip_address(address)


def test_an_operator_can_allow_networks() -> None:
    for address in HOSTILE:
        network = ip_network(judge_target(address))
        assert check_ip_address(address, [network]) == str(network.network_address)
    with pytest.raises(AddressNotAllowedError):
        check_ip_address("127.0.0.2", [LOOPBACK])


def judge_target(address: str) -> str:
    """Return the address that is checked: the mapped IPv4 address, if there is one."""
    plain = ip_address(address.partition("%")[0])
    return str(getattr(plain, "ipv4_mapped", None) or plain)


@pytest.mark.parametrize("address", GOOD)
async def test_public_addresses_are_connected_to(address: str, tls: ssl.SSLContext) -> None:
    plain = judge_target(address)
    for host in [f"[{address}]" if ":" in address else address, "name.test"]:
        world = World({"name.test": [[address]]})
        assert await fetched(world, f"https://{host}/a.mp3?x=1", tls) == 2
        assert world.connected == [(plain, 443)]


async def test_a_name_is_looked_up_once_and_three_of_its_addresses_are_tried(
    tls: ssl.SSLContext,
) -> None:
    world = World({"name.test": [[*GOOD[:3], PUBLIC]]}, dead=set(GOOD[:2]))
    assert await fetched(world, "http://name.test/", tls) == 2
    assert [host for host, _ in world.connected] == list(GOOD[:3])
    assert world.lookups == ["name.test"]


async def test_a_fourth_address_is_not_tried(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "PAUSES", ())
    world = World({"name.test": [["1.1.1.1", "8.8.8.8", PUBLIC, "47.246.0.2"]]})
    world.dead = {"1.1.1.1", "8.8.8.8", PUBLIC}
    with pytest.raises(FetchError) as caught:
        await fetched(world, "http://name.test/", tls)
    assert caught.value.fault is FetchFault.NO_CONNECTION
    assert len(world.connected) == 3


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://public.test/a", "Only https:// or http://"),
        ("file:///etc/passwd", "Only https"),
        ("//public.test/a", "Only https"),
        ("gopher://public.test/", "Only https"),
        ("https://u:p@public.test/", "user name or a password"),
        ("https://public.test:22/", "port"),
        ("http://public.test:443@127.0.0.1/", "user name"),
        ("https:///a", "no valid host"),
        ("https://a b.test/", "no valid host"),
        ("https://public.test\r\nX: y/", "not a valid URL"),
        ("https://" + "a" * 9000, "longer than"),
        ("https://[::1", "not a valid URL"),
        ("", "Only https"),
    ],
)
async def test_urls_that_are_rejected_without_a_lookup(
    url: str, words: str, tls: ssl.SSLContext
) -> None:
    world = World({"public.test": [[PUBLIC]]})
    with pytest.raises(UrlNotAllowedError, match=words) as caught:
        check_url(url, RULES)
    assert "public.test" not in str(caught.value)
    with pytest.raises(FetchError):
        await fetched(world, url, tls)
    assert (world.lookups, world.connected) == ([], [])


def test_names_are_no_addresses() -> None:
    for host in ("example.org", "1.example", "0x.test", "a.b.c.d", "1.2.3.4.5", "dead.beef"):
        assert address_in(host) is None
    assert check_url("https://bücher.test/é", RULES).raw_host == b"xn--bcher-kva.test"


async def test_no_socket_file_is_opened(tls: ssl.SSLContext) -> None:
    world = World()
    async with open_guarded_client(RULES, world.resolve, connector=world, tls=tls) as client:
        guard = client._transport._pool._network_backend  # type: ignore[attr-defined]
        with pytest.raises(UrlNotAllowedError):
            await guard.connect_unix_socket("/run/docker.sock")
        with pytest.raises(UrlNotAllowedError):
            await guard.connect_tcp(PUBLIC, 22)
    assert world.connected == []


async def test_a_proxy_of_the_environment_is_not_used(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:3128")
    world = World({"name.test": [[PUBLIC]]})
    assert await fetched(world, "http://name.test/", tls) == 2
    assert world.connected == [(PUBLIC, 80)]
