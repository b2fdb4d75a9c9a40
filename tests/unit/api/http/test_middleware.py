"""Each request has an id, one log line without private data, and a minimum rate.

Covers: app.api.http.body_rate, app.api.http.middleware, app.api.http.problems, app.kit.log
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.http import problems
from app.api.http.body_rate import BodyRate, RatedBody
from app.api.http.middleware import RequestMiddleware
from app.errors import BodyTooSlow
from app.kit.ids import is_id
from app.kit.log import get_log_context
from tests.support.captured_log import capture_logs

pytestmark = pytest.mark.anyio
IDLE_SECONDS = 0.05


def tiny_app() -> FastAPI:
    app = FastAPI()
    problems.install_error_handlers(app)
    rate = BodyRate(IDLE_SECONDS, grace_seconds=0.1, min_bytes_per_second=1 << 20)
    app.add_middleware(RequestMiddleware, rate=rate)
    router = APIRouter()

    @router.get("/things/{name}")
    def thing(name: str, request: Request) -> dict[str, object]:
        return {
            "id": request.state.request_id,
            "bound": get_log_context().get("request_id"),
        }

    @router.get("/own")
    def own() -> Response:
        return Response(
            headers={"Cache-Control": "max-age=5", "Content-Security-Policy": "default-src 'self'"}
        )

    @router.get("/half")
    def half() -> Response:
        def pieces() -> Iterator[bytes]:
            yield b"half"
            raise KeyError("canary")

        return StreamingResponse(pieces())

    @router.post("/raw")
    async def raw(request: Request) -> int:
        return sum([len(chunk) async for chunk in request.stream()])

    @router.post("/parsed")
    async def parsed(wish: dict[str, int]) -> dict[str, int]:
        return wish

    @router.post("/deaf")
    async def deaf() -> None: ...

    app.include_router(router, prefix="/v1")
    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(tiny_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


def post_scope(path: str = "/v1/raw", *headers: tuple[bytes, bytes]) -> Scope:
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(headers) or [(b"transfer-encoding", b"chunked")],
    }


async def call(app: ASGIApp, scope: Scope, receive: Receive) -> tuple[int, dict[str, str], bytes]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(piece.get("body", b"") for piece in sent[1:])


def rated(app: ASGIApp, rate: BodyRate) -> ASGIApp:
    """Return the application with only the middleware for the rate of bodies."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, RatedBody(receive, rate).receive, send)

    return wrapped


async def for_ever() -> Message:
    return await asyncio.Event().wait()  # type: ignore[return-value]


# ── RequestMiddleware ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("given", ["abc", "A.b_c-9", "x" * 64])
async def test_a_valid_request_id_of_the_caller_is_used(
    client: httpx.AsyncClient, given: str
) -> None:
    response = await client.get("/v1/things/a", headers={"X-Request-Id": given})
    assert response.headers["x-request-id"] == given
    assert response.json() == {"id": given, "bound": given}


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\tb", "ä", "<script>"])
async def test_any_other_id_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    headers = {b"X-Request-Id": given.encode()}
    response = await client.get("/v1/things/a", headers=headers)
    assert is_id("req", response.headers["x-request-id"])


async def test_nothing_stays_bound_after_a_request(client: httpx.AsyncClient) -> None:
    await client.get("/v1/things/a")
    assert get_log_context() == {}


@pytest.mark.parametrize("path", ["/v1/things/a", "/nowhere"])
async def test_answers_carry_safe_headers(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "connection" not in headers


async def test_a_route_may_set_its_own(client: httpx.AsyncClient) -> None:
    headers = (await client.get("/v1/own")).headers
    assert headers.get_list("cache-control") == ["max-age=5"]
    assert headers.get_list("content-security-policy") == ["default-src 'self'"]


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/v1/things/secret?q=secret", "/v1/things/{name}", 200),
        ("DELETE", "/v1/things/secret", "/v1/things/{name}", 405),
        ("GET", "/secret", "-", 404),
    ],
)
async def test_one_line_a_request_with_the_whole_template_and_no_path(
    client: httpx.AsyncClient, method: str, path: str, route: str, status: int
) -> None:
    with capture_logs() as lines:
        await client.request(method, path)
    (line,) = lines
    assert line["ms"] >= 0
    del line["ms"]
    assert line == {
        "event": "http.request",
        "log_level": "info",
        "method": method,
        "route": route,
        "status": status,
    }


async def test_a_crash_inside_a_stream_is_logged_and_the_answer_stays_unfinished() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {**post_scope("/v1/half", (b"host", b"gateway")), "method": "GET"}
    with capture_logs() as lines:
        await tiny_app()(scope, for_ever, send)
    assert [line["event"] for line in lines] == ["http.crashed", "http.request"]
    assert "canary" not in str(lines)
    assert sent[-1]["more_body"] is True


async def test_lifespan_passes_untouched() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    wrapped = RequestMiddleware(app, rate=BodyRate(1, 1, 1))
    await wrapped({"type": "lifespan"}, for_ever, lambda _: for_ever())  # type: ignore[arg-type,return-value]
    assert seen == ["lifespan"]


# ── BodyRate ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/v1/raw", "/v1/parsed"])
async def test_a_body_without_data_is_408_and_closes_the_connection(path: str) -> None:
    scope = post_scope(path, (b"content-length", b"9"), (b"content-type", b"application/json"))
    status, headers, body = await call(tiny_app(), scope, for_ever)
    assert (status, headers["connection"]) == (408, "close")
    assert b'"code":"body_too_slow"' in body


async def test_a_slow_body_is_408_after_the_grace_time() -> None:
    chunks = 0

    async def trickle() -> Message:
        nonlocal chunks
        chunks += 1
        await asyncio.sleep(IDLE_SECONDS / 5)
        return {"type": "http.request", "body": b"x", "more_body": True}

    status, _, _ = await call(tiny_app(), post_scope(), trickle)
    assert status == 408
    assert 5 <= chunks <= 12  # 0.1 s of grace at 0.01 s a chunk


async def test_a_slow_application_fails_no_client() -> None:
    left = 3

    async def at_once() -> Message:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": b"x", "more_body": left > 0}

    async def slow_app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(3):
            await receive()
            await asyncio.sleep(0.1)
        await send({"type": "http.response.start", "status": 200, "headers": ()})

    rate = rated(slow_app, BodyRate(0.05, 0.05, 1 << 30))
    status, headers, _ = await call(rate, post_scope(), at_once)
    assert (status, headers) == (200, {})


async def test_waiting_for_the_end_of_the_connection_is_not_timed() -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b"x", "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        if len(messages) == 1:
            await asyncio.sleep(IDLE_SECONDS * 3)
        return messages.pop(0)

    async def listener(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["body"] == b"x"
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})

    rate = rated(listener, BodyRate(IDLE_SECONDS, 0.01, 1 << 30))
    assert (await call(rate, post_scope(), receive))[0] == 200


async def test_a_request_without_a_body_is_never_timed() -> None:
    async def receive() -> Message:
        await asyncio.sleep(IDLE_SECONDS * 3)
        return {"type": "http.disconnect"}

    async def listener(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    app = RequestMiddleware(listener, rate=BodyRate(IDLE_SECONDS, 0.01, 1))
    scope = post_scope("/", (b"content-length", b"0"))
    status, headers, body = await call(app, scope, receive)
    assert (status, "connection" in headers, body) == (200, False, b"")


async def test_a_disconnect_is_not_a_slow_body() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def listener(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})

    rate = rated(listener, BodyRate(1, 0, 1 << 30))
    assert (await call(rate, post_scope(), receive))[0] == 200


async def test_an_answer_before_the_end_of_the_body_closes() -> None:
    _, headers, _ = await call(tiny_app(), post_scope("/v1/deaf"), for_ever)
    assert headers["connection"] == "close"


async def test_body_too_slow_is_raised_to_the_error_handlers() -> None:
    async def reader(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    rate = rated(reader, BodyRate(0.01, 1, 1))
    with pytest.raises(BodyTooSlow):
        await rate(post_scope(), for_ever, lambda _: for_ever())  # type: ignore[arg-type,return-value]


async def test_messages_that_each_come_in_time_are_received_for_as_long_as_they_come() -> None:
    async def steady() -> Message:
        await asyncio.sleep(0.15)
        return {"type": "http.request", "body": b"x", "more_body": True}

    body = RatedBody(steady, BodyRate(0.5, 60, 1))
    for _ in range(5):
        assert (await body.receive())["body"] == b"x"


async def test_a_pause_of_the_reader_is_no_pause_of_the_client() -> None:
    async def at_once() -> Message:
        return {"type": "http.request", "body": b"x", "more_body": True}

    body = RatedBody(at_once, BodyRate(IDLE_SECONDS, 60, 1))
    for _ in range(3):
        await body.receive()
        await asyncio.sleep(IDLE_SECONDS * 2)


async def test_a_client_that_stalls_after_a_message_is_refused() -> None:
    messages = [{"type": "http.request", "body": b"x", "more_body": True}]

    async def stalling() -> Message:
        return messages.pop() if messages else await for_ever()

    body = RatedBody(stalling, BodyRate(IDLE_SECONDS, 60, 1))
    await body.receive()
    with pytest.raises(BodyTooSlow):
        await body.receive()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancelled_receiver_is_cancelled_and_not_too_slow() -> None:
    body = RatedBody(for_ever, BodyRate(IDLE_SECONDS * 100, 60, 1))
    receiving = asyncio.create_task(body.receive())
    await asyncio.sleep(0)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
