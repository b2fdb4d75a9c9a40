"""A fetch returns every byte of one file, or fails with the right fault and without secrets.

Covers: app.net.fetch, app.net.content_range
"""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import ip_network

import pytest

from app.net import fetch as fetching
from app.net.client import Client
from app.net.fetch import REDIRECTS, FetchError, FetchFault, FetchLimits, fetch_file
from app.net.guard import Resolver, open_guarded_client
from app.net.urls import UrlRules
from tests.support.web_server import (
    FlakyPage,
    Page,
    WebServer,
    answer,
    dripping,
    redirect,
    serving,
    unsized,
)

pytestmark = pytest.mark.anyio

SOUND = random.Random(3).randbytes(300_000)
OLD = "Fri, 20 Nov 2026 05:28:00 GMT"
JUST_NOW = "Sat, 21 Nov 2026 05:27:59 GMT"

CAPS = FetchLimits(max_bytes=1_000_000, deadline_seconds=20, max_redirects=5)


@dataclass
class Kept:
    """A sink that stores its bytes."""

    body: bytearray = field(default_factory=bytearray)
    restarts: int = 0

    async def write(self, data: bytes) -> None:
        self.body += data

    async def restart(self) -> None:
        self.body.clear()
        self.restarts += 1


@dataclass
class Site:
    source: WebServer
    client: Client
    rules: UrlRules
    caps: FetchLimits = CAPS

    async def get(self, page: Page, path: str = "/a?sig=canary") -> Kept:
        self.source.pages[path.partition("?")[0]] = page
        kept = Kept()
        size = await fetch_file(
            self.client, self.source.url(path), kept, rules=self.rules, limits=self.caps
        )
        assert size == len(kept.body)
        return kept

    async def fault(self, page: Page) -> FetchError:
        with pytest.raises(FetchError) as caught:
            await self.get(page)
        assert "canary" not in f"{caught.value!r} {caught.value.words} {caught.value.host}"
        return caught.value


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A server on loopback, which the rules allow, and a client with short pauses."""
    monkeypatch.setattr(fetching, "PAUSES", (0.01,) * 4)
    async with serving() as source:
        ports = frozenset({source.port})
        rules = UrlRules(frozenset({"http", "https"}), ports, (ip_network("127.0.0.1/32"),))
        async with open_guarded_client(rules, Resolver(), silence_seconds=2) as client:
            yield Site(source, client, rules)


async def test_a_file_is_fetched_completely(site: Site) -> None:
    assert (await site.get(answer("200 OK", SOUND))).body == SOUND
    assert (await site.get(unsized(SOUND))).body == SOUND
    headers = site.source.asked[0].headers
    assert headers["accept-encoding"] == "identity"
    assert {"authorization", "cookie", "range"}.isdisjoint(headers)


@pytest.mark.parametrize("validator", [{"etag": "strong"}, {"modified": OLD}])
async def test_a_file_that_is_cut_off_is_continued(site: Site, validator: dict[str, str]) -> None:
    kept = await site.get(page := FlakyPage(SOUND, [100_000, 0, 90_000], **validator))
    assert kept.body == SOUND
    assert (kept.restarts, page.answers) == (0, 4)
    assert site.source.asked[1].headers["range"].startswith("bytes=")
    assert sum("range" in asked.headers for asked in site.source.asked) == 3


@pytest.mark.parametrize(
    "page",
    [
        FlakyPage(SOUND, [100_000], ranges=False, etag="strong"),
        FlakyPage(SOUND, [100_000]),  # nothing tells one version from the next
        FlakyPage(SOUND, [100_000], modified=JUST_NOW),  # might change again within that second
        FlakyPage(b"x" * 200_000, [100_000], etag="strong", changes_to=SOUND),
        FlakyPage(SOUND, [100_000], etag="strong", lies="bytes 5-299999/300000"),
        FlakyPage(SOUND, [100_000], etag="strong", lies="bytes 100000-299999/300001"),
        FlakyPage(SOUND, [100_000], etag="strong", lies="nonsense"),
    ],
    ids=["no ranges", "no validator", "fresh date", "changed", "start", "size", "nonsense"],
)
async def test_a_file_that_cannot_be_continued_is_fetched_again(
    site: Site, page: FlakyPage
) -> None:
    kept = await site.get(page)
    assert kept.body == SOUND
    assert kept.restarts == 1


async def test_a_file_that_is_cut_off_each_time_is_given_up(site: Site) -> None:
    error = await site.fault(page := FlakyPage(SOUND, [1000] * 99, etag="strong"))
    assert error.fault is FetchFault.CUT
    assert page.answers == 5


@pytest.mark.parametrize("code", sorted(REDIRECTS))
async def test_redirects_are_followed_without_cookies_and_referers(site: Site, code: int) -> None:
    site.source.pages["/b"] = redirect(code, site.source.url("/c"))
    site.source.pages["/c"] = answer("200 OK", SOUND)
    assert (await site.get(redirect(code, "b?x=1"))).body == SOUND
    assert [asked.path for asked in site.source.asked] == ["/a?sig=canary", "/b?x=1", "/c"]
    assert not any("cookie" in asked.headers for asked in site.source.asked)
    assert not any("referer" in asked.headers for asked in site.source.asked)


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("/a", FetchFault.REDIRECTS),
        ("http://127.0.0.2:{port}/", FetchFault.NOT_ALLOWED),
        ("http://10.0.0.1/", FetchFault.NOT_ALLOWED),
        ("http://[::ffff:10.0.0.1]:{port}/", FetchFault.NOT_ALLOWED),
        ("http://u:p@127.0.0.1:{port}/", FetchFault.NOT_ALLOWED),
        ("file:///etc/passwd", FetchFault.NOT_ALLOWED),
        ("http://0177.0.0.1/", FetchFault.NOT_ALLOWED),
        ("http://127.0.0.1:22/", FetchFault.NOT_ALLOWED),
    ],
)
async def test_redirects_that_are_not_followed(site: Site, target: str, fault: FetchFault) -> None:
    async with serving(host="127.0.0.2", port=site.source.port) as inner:
        error = await site.fault(redirect(302, target.format(port=site.source.port)))
        assert error.fault is fault
        assert inner.asked == []
    assert len(site.source.asked) == (6 if fault is FetchFault.REDIRECTS else 1)


@pytest.mark.parametrize("size", [1_000_001, 5_000_000])
async def test_a_file_above_the_limit_is_an_error(site: Site, size: int) -> None:
    assert (await site.fault(answer("200 OK", b"x" * size))).fault is FetchFault.TOO_LARGE
    assert (await site.fault(unsized(b"x" * size))).fault is FetchFault.TOO_LARGE
    assert len((await site.get(unsized(b"x" * 1_000_000))).body) == 1_000_000


@pytest.mark.parametrize(
    ("page", "fault", "asked"),
    [
        (answer("404 Not Found", b"canary"), FetchFault.STATUS, 1),
        (answer("204 No Content"), FetchFault.STATUS, 1),
        (answer("206 Partial Content", b"x"), FetchFault.STATUS, 1),
        (answer("302 Found"), FetchFault.STATUS, 1),
        (answer("503 Busy", b"canary"), FetchFault.STATUS, 5),
        (answer("200 OK", b"x", Content_Encoding="gzip"), FetchFault.ENCODED, 1),
    ],
)
async def test_answers_without_a_file_are_errors(
    site: Site, page: Page, fault: FetchFault, asked: int
) -> None:
    assert (await site.fault(page)).fault is fault
    assert len(site.source.asked) == asked


async def test_a_slow_server_is_left_at_the_fetch_deadline(site: Site) -> None:
    site.caps = FetchLimits(max_bytes=1_000_000, deadline_seconds=0.5, max_redirects=5)
    assert (await site.fault(dripping(SOUND))).fault is FetchFault.TIMEOUT


async def test_a_closed_port_is_an_error(site: Site) -> None:
    async with serving() as other:
        port = other.port
    rules = UrlRules(site.rules.schemes, frozenset({port}), site.rules.allowed)
    async with open_guarded_client(rules, Resolver()) as client:
        url = f"http://127.0.0.1:{port}/"
        with pytest.raises(FetchError) as caught:
            await fetch_file(client, url, Kept(), rules=rules, limits=site.caps)
    assert caught.value.fault is FetchFault.NO_CONNECTION
