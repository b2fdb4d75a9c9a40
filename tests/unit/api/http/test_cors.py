"""A page of a listed origin may read every answer, including errors; other pages may read none.

Covers: app.api.http.body_rate, app.api.http.cors, app.api.http.middleware, app.api.http.problems
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import StreamingResponse

from app.api.http import cors, problems
from app.api.http.body_rate import BodyRate
from app.api.http.middleware import RequestMiddleware
from app.errors import KeyMissing
from app.main import create_app
from app.settings import Settings
from tests.support.gateway import code_of

pytestmark = pytest.mark.anyio
PAGE, OTHER = "https://app.example", "https://evil.example"
ALLOWED, EXPOSED = "access-control-allow-origin", "access-control-expose-headers"


def tiny_app(*origins: str) -> FastAPI:
    """Return an application with the gateway's middleware and routes that fail in every way."""
    app = FastAPI()
    problems.install_error_handlers(app)
    rate = BodyRate(idle_seconds=0.05, grace_seconds=1, min_bytes_per_second=1)
    app.add_middleware(RequestMiddleware, rate=rate, cors=cors.cors_for(origins))

    @app.get("/crash")
    def crash() -> None:
        raise KeyError("canary")

    @app.get("/keyless")
    def keyless() -> None:
        raise KeyMissing

    @app.get("/stream")
    def stream() -> StreamingResponse:
        return StreamingResponse(iter([b"data: 1\n\n"]), media_type="text/event-stream")

    @app.post("/body")
    async def body(wish: dict[str, int]) -> dict[str, int]:
        return wish

    return app


@asynccontextmanager
async def client(*origins: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(tiny_app(*origins))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as found:
        yield found


def preflight(origin: str, method: str = "POST", *headers: str, **more: str) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        **({"Access-Control-Request-Headers": ", ".join(headers)} if headers else {}),
        **more,
    }


@pytest.mark.parametrize(
    ("path", "status"), [("/crash", 500), ("/keyless", 401), ("/stream", 200), ("/nowhere", 404)]
)
async def test_a_listed_page_reads_every_answer(path: str, status: int) -> None:
    async with client(PAGE) as there:
        answer = await there.get(path, headers={"Origin": PAGE})
        assert (answer.status_code, answer.headers[ALLOWED]) == (status, PAGE)
        assert "Origin" in answer.headers["vary"]
        assert {"Location", "Retry-After", "X-Request-Id"} <= set(answer.headers[EXPOSED].split(", "))  # fmt: skip  # noqa: E501
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.headers["x-request-id"].startswith("req_")
        other = await there.get(path, headers={"Origin": OTHER})
        assert (other.status_code, other.headers.get(ALLOWED)) == (status, None)
        assert ALLOWED not in (await there.get(path)).headers


async def test_a_page_can_read_the_error_of_a_rejected_or_slow_body() -> None:
    async def stalls() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(0.2)

    async with client(PAGE) as there:
        for content, status in ((b"{", 400), (stalls(), 408)):
            headers = {"Origin": PAGE, "Content-Type": "application/json"}
            answer = await there.post("/body", content=content, headers=headers)
            assert (answer.status_code, answer.headers[ALLOWED]) == (status, PAGE)


async def test_a_preflight_allows_the_methods_and_headers_of_the_api() -> None:
    asked = ("authorization", "content-type", "last-event-id", "prefer", "range", "x-request-id")
    async with client(PAGE) as there:
        for method in ("GET", "HEAD", "POST", "DELETE"):
            answer = await there.options("/body", headers=preflight(PAGE, method, *asked))
            assert (answer.status_code, answer.headers[ALLOWED]) == (200, PAGE)
            assert method in answer.headers["access-control-allow-methods"]
            assert answer.headers["x-request-id"].startswith("req_")
        odd = await there.options("/body", headers=preflight(PAGE, "POST", "x-made-up"))
        assert odd.status_code == 400
        other = await there.options("/body", headers=preflight(OTHER))
        assert (other.status_code, other.headers.get(ALLOWED)) == (400, None)


async def test_only_listed_origins_may_access_a_private_network() -> None:
    private = {"Access-Control-Request-Private-Network": "true"}
    async with client(PAGE) as there:
        answer = await there.options("/body", headers=preflight(PAGE, "GET", **private))
        assert answer.headers["access-control-allow-private-network"] == "true"
    async with client("*") as there:
        answer = await there.options("/body", headers=preflight(PAGE, "GET", **private))
        assert answer.status_code == 400


async def test_a_star_is_every_page_without_credentials() -> None:
    async with client("*") as there:
        answer = await there.get("/crash", headers={"Origin": OTHER})
        assert (answer.status_code, answer.headers[ALLOWED]) == (500, "*")
        assert "access-control-allow-credentials" not in answer.headers


async def test_without_cors_origins_there_are_no_cors_headers() -> None:
    async with client() as there:
        answer = await there.get("/stream", headers={"Origin": PAGE})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "vary" not in answer.headers
        assert (await there.options("/body", headers=preflight(PAGE))).status_code == 405


@pytest.mark.parametrize("origins", [(), (PAGE,)])
async def test_cors_origins_enables_cors_in_the_gateway(origins: tuple[str, ...]) -> None:
    settings = Settings(_env_file=None, server={"cors_origins": origins})  # type: ignore[call-arg, arg-type]
    transport = httpx.ASGITransport(create_app(settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as there:
        answer = await there.get("/healthz", headers={"Origin": PAGE})
        # Readiness needs a database, and none is open here: the answer to a crash.
        crashed = await there.get("/readyz", headers={"Origin": PAGE})
    assert (answer.status_code, crashed.status_code) == (200, 500)
    expected = PAGE if origins else None
    assert answer.headers.get(ALLOWED) == crashed.headers.get(ALLOWED) == expected
    assert answer.headers["x-request-id"] != crashed.headers["x-request-id"]


SENT_BY_PAGES = (
    *("baggage", "sentry-trace", "traceparent", "tracestate", "x-requested-with"),
    *("cache-control", "idempotency-key", "x-api-key"),
)


async def test_the_usual_headers_are_allowed() -> None:
    """CASES 6: tracing, idempotency and keys as pages and SDKs send them."""
    async with client(PAGE) as page:
        answer = await page.options("/body", headers=preflight(PAGE, "POST", *SENT_BY_PAGES))
        assert answer.status_code == 200


async def test_a_refused_preflight_is_a_problem() -> None:
    """CASES 6, 12: the operator is told which setting to change."""
    async with client(PAGE) as page:
        answer = await page.options("/body", headers=preflight(PAGE, "POST", "x-odd"))
    assert code_of(answer) == (400, "cors_refused")
    assert "headers" in answer.json()["detail"]


async def test_further_headers_are_allowed_by_a_setting() -> None:
    """CASES 6."""
    app = cors.cors_for([PAGE], ["X-Odd"])
    assert app is not None
    assert "x-odd" in app(tiny_app()).allow_headers  # type: ignore[attr-defined]
