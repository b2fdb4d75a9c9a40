"""The docs page loads nothing from other hosts, under a policy without inline content.

Covers: app.api.docs_page, app.api.http.body_rate, app.api.http.middleware, app.api.http.problems
"""

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from app.api import docs_page
from app.api.http import problems
from app.api.http.body_rate import BodyRate
from app.api.http.middleware import RequestMiddleware

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI(title="A & B", docs_url=None, redoc_url=None)
    problems.install_error_handlers(app)
    docs_page.install_docs(app)
    app.add_middleware(RequestMiddleware, rate=BodyRate(1, 1, 1))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


async def addresses(client: httpx.AsyncClient) -> list[str]:
    page = await client.get("/docs")
    return re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text)


async def test_the_page_has_nothing_inline_and_names_only_our_files(
    client: httpx.AsyncClient,
) -> None:
    page = await client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-store"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self';" in policy
    assert "http" not in page.text
    assert "<title>A &amp; B</title>" in page.text
    assert all(re.findall(r"<script src=[^>]+></script>", page.text))
    assert page.text.count("<script") == page.text.count("<script src=") == 2
    assert 'data-openapi="docs/openapi.json"' in page.text


async def test_its_files_are_kept_for_good_and_checked_by_tag(client: httpx.AsyncClient) -> None:
    found = await addresses(client)
    assert len(found) == 3
    for address in found:
        file = await client.get(f"/{address}")
        assert file.status_code == 200
        assert file.headers["content-encoding"] == "gzip"
        assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert file.headers["vary"].lower() == "accept-encoding"
        again = await client.get(f"/{address}", headers={"If-None-Match": file.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


async def test_a_head_request_is_answered_like_a_get(client: httpx.AsyncClient) -> None:
    for address in ["docs", *await addresses(client)]:
        assert (await client.head(f"/{address}")).status_code == 200


@pytest.mark.parametrize("accepted", ["identity", "", "gzip;q=0", "br, deflate", "gzip; q=0.0"])
async def test_a_client_without_gzip_gets_the_same_bytes(
    client: httpx.AsyncClient, accepted: str
) -> None:
    for address in await addresses(client):
        zipped = await client.get(f"/{address}", headers={"Accept-Encoding": "br, GZIP;q=0.5"})
        plain = await client.get(f"/{address}", headers={"Accept-Encoding": accepted})
        assert zipped.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in plain.headers
        assert plain.content == zipped.content
        assert plain.headers["etag"] != zipped.headers["etag"]


@pytest.mark.parametrize(
    "path", ["/docs/0/init.js", "/docs/0/LICENSE", "/docs/x/../init.js", "/docs/x"]
)
async def test_nothing_else_is_served(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_the_docs_are_no_part_of_the_document(client: httpx.AsyncClient) -> None:
    assert (await client.get("/openapi.json")).json()["paths"] == {}
