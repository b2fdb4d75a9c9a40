"""Both HTTP clients behave the same, on both event loops: answers, faults, deadlines, cancellation.

Covers: app.net.http.direct_client, app.net.http.httpx_client, app.net.http.connection
"""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from app.net.http.exchange import Body, ExchangeError, Fault, HttpClient
from tests.integration.net.http.server import (
    LOOPS,
    Request,
    Respond,
    Server,
    answer,
    body_of,
    client_of,
    post,
    post_streamed,
    responds,
    serving,
)
from tests.support.stub_server import socket_server

pytestmark = pytest.mark.anyio
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture(params=["direct", "httpx"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def exchange(kind: str, respond: Respond) -> AsyncIterator[tuple[HttpClient, Server]]:
    async with serving(respond) as server, client_of(kind, server.url + "/base") as client:
        yield client, server


async def failure(kind: str, respond: Respond, **options: object) -> ExchangeError:
    async with exchange(kind, respond) as (client, _):
        with pytest.raises(ExchangeError) as caught:
            await post(client, **options)  # type: ignore[arg-type]
    return caught.value


async def test_a_request_and_its_answer(kind: str) -> None:
    async with exchange(kind, responds(answer(b"text", "X-Request-Id: r1"))) as (client, server):
        got = await post(client, path="/a?b=c", headers={"Authorization": "Bearer k"})
        polled = await client.get("/g", headers={}, deadline_seconds=5, max_bytes=10)
    assert (got.status, got.body, got.headers["x-request-id"]) == (200, b"text", "r1")
    assert polled.body == b"text"
    posted, got_ = server.requests
    assert posted.head.startswith("POST /base/a?b=c HTTP/1.1\r\n")
    assert posted.body == b"sound"
    head = posted.head.lower()
    assert f"\r\nhost: {server.url.removeprefix('http://')}\r\n" in head
    assert "\r\ncontent-type: text/plain\r\n" in head
    assert "\r\ncontent-length: 5\r\n" in head
    assert "\r\naccept-encoding: identity\r\n" in head
    assert "\r\nauthorization: bearer k\r\n" in head
    assert got_.head.startswith("GET /base/g HTTP/1.1\r\n")
    assert "content-length" not in got_.head.lower()


async def test_a_body_of_many_chunks_of_either_kind(kind: str) -> None:
    pieces = [bytes([n]) * 100_000 for n in range(30)]

    async def later() -> AsyncIterator[bytes]:
        for piece in pieces:
            await asyncio.sleep(0)
            yield piece

    async with exchange(kind, responds(answer(b"ok"))) as (client, server):
        await post(client, body_of(*pieces))
        await post(client, Body(3_000_000, "text/plain", later))
        await post(client, Body(0, "text/plain", tuple))
    whole = b"".join(pieces)
    assert [request.body for request in server.requests] == [whole, whole, b""]


async def test_connections_are_used_again_and_the_newest_first(kind: str) -> None:
    both = asyncio.Event()

    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        if len(server.requests) >= 2:
            both.set()
        await both.wait()
        await responds(answer(request.body))(request, writer)

    async with serving(respond) as server, client_of(kind, server.url) as client:
        await asyncio.gather(post(client), post(client))
        for _ in range(5):
            await post(client)
        assert server.connections == 2
        assert len({request.connection for request in server.requests[2:]}) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay",
    ],
)
async def test_connections_that_cannot_be_used_again_are_not(kind: str, data: bytes) -> None:
    if kind == "httpx" and data.endswith(b"okay"):
        pytest.skip("httpx uses it again, and fails")
    async with exchange(kind, responds(data)) as (client, server):
        for _ in range(3):
            assert (await post(client)).body == b"ok"
        assert server.connections == 3


async def test_an_answer_that_ends_with_the_connection(kind: str) -> None:
    data = b"HTTP/1.1 200 OK\r\n\r\nall of it"
    async with exchange(kind, responds(data, close=True)) as (client, _):
        got = await post(client)
        assert (got.body, got.has_an_end) == (b"all of it", False)
        assert (await post(client)).body == b"all of it"


async def test_an_interim_answer_is_ignored(kind: str) -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"ok")
    async with exchange(kind, responds(data)) as (client, server):
        assert (await post(client)).body == b"ok"
        assert (await post(client)).body == b"ok"
        assert server.connections == 1


async def test_an_answer_truncated_anywhere_is_an_error_that_may_be_billed(kind: str) -> None:
    data = answer(b"hello", "Content-Type: text/plain")
    chunked = CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"
    for whole in (data, chunked):
        for end in range(0, len(whole), 3 if kind == "direct" else 17):
            error = await failure(kind, responds(whole[:end], close=True))
            assert (error.fault, error.was_sent) == (Fault.BROKEN, True), whole[:end]


async def reset(_request: Request, writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def cut_error(request: Request, writer: asyncio.StreamWriter) -> None:
    cut = b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Length: 90\r\n\r\n{"
    await responds(cut, close=True)(request, writer)


async def test_a_reset_is_an_error_that_may_be_billed(kind: str) -> None:
    error = await failure(kind, reset)
    assert (error.fault, error.was_sent) == (Fault.BROKEN, True)


async def test_an_error_is_returned_although_its_body_is_cut_short(kind: str) -> None:
    async with exchange(kind, cut_error) as (client, _):
        got = await post(client)
        assert (got.status, got.headers["retry-after"], got.body) == (429, "7", b"{")


@pytest.mark.parametrize("size", [1 << 20, 8 << 20])
async def test_a_body_above_the_limit_is_an_error(kind: str, size: int) -> None:
    async def flood(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size >> 20):
            writer.write(b" " * (1 << 20))
            await writer.drain()

    error = await failure(kind, flood, max_bytes=(1 << 20) - 1)
    assert (error.fault, error.was_sent) == (Fault.TOO_LARGE, True)


async def test_headers_above_the_limit_are_an_error(kind: str) -> None:
    async def flood(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for n in range(1000):
            writer.write(b"X-%d: " % n + b"a" * 1000 + b"\r\n")
            await writer.drain()

    error = await failure(kind, flood)
    assert error.fault is Fault.BROKEN


async def test_bytes_that_are_not_http_are_an_error(kind: str) -> None:
    error = await failure(kind, responds(b"\x16\x03\x01 nothing like it\r\n\r\n"))
    assert (error.fault, error.was_sent) == (Fault.BROKEN, True)


async def test_without_a_connection_nothing_was_sent(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with client_of(kind, f"http://127.0.0.1:{port}") as client:
        with pytest.raises(ExchangeError) as caught:
            await post(client)
    assert (caught.value.fault, caught.value.was_sent) == (Fault.UNREACHABLE, False)


async def stuck(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read no more of a request than fits into the socket buffers."""
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(30)


@pytest.mark.parametrize("chunk", [1 << 16, 8 << 20])
async def test_a_request_that_was_not_taken_whole_was_not_sent(kind: str, chunk: int) -> None:
    pieces = [bytes(chunk)] * ((8 << 20) // chunk)
    if kind == "httpx" and len(pieces) == 1:
        pytest.skip("httpx does not tell how much of a chunk has gone")
    async with socket_server(stuck) as url, client_of(kind, url) as client:
        with pytest.raises(ExchangeError) as caught:
            await post(client, body_of(*pieces), deadline_seconds=0.3)
    assert (caught.value.fault, caught.value.was_sent) == (Fault.TIMEOUT, False)


async def hang(_request: Request, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


def dripping(head: bytes, piece: bytes = b" ") -> Respond:
    async def drip(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)

    return drip


@pytest.mark.parametrize(
    "respond",
    [
        hang,
        dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"),
        dripping(b"HTTP/1.1 200 OK\r\n", b"X-A: a\r\n"),
        dripping(CHUNKED, b"1\r\na\r\n"),
    ],
    ids=["hang", "body", "head", "chunks"],
)
async def test_the_deadline_ends_everything(kind: str, respond: Respond) -> None:
    began = time.monotonic()
    error = await failure(kind, respond, deadline_seconds=0.3)
    assert (error.fault, error.was_sent) == (Fault.TIMEOUT, True)
    assert 0.25 < time.monotonic() - began < 1.3


async def test_a_silent_server_is_an_error_at_the_silence_limit(kind: str) -> None:
    async with serving(hang) as server, client_of(kind, server.url, silence_seconds=0.2) as client:
        began = time.monotonic()
        with pytest.raises(ExchangeError) as caught:
            await post(client)
    assert (caught.value.fault, caught.value.was_sent) == (Fault.TIMEOUT, True)
    assert 0.15 < time.monotonic() - began < 1.2


async def test_a_slow_body_is_no_silent_server(kind: str) -> None:
    async def slow(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        for _ in range(10):
            await asyncio.sleep(0.08)
            writer.write(b"a")

    async with serving(slow) as server, client_of(kind, server.url, silence_seconds=0.5) as client:
        assert (await post(client)).body == b"a" * 10


async def test_an_answer_before_the_end_of_the_request_is_taken(kind: str) -> None:
    if kind == "httpx":
        pytest.skip("httpx writes on, and may lose the answer to a reset")

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(b"too large", status="413 Too Large"))
        await writer.drain()
        await asyncio.sleep(0.2)  # or a reset overtakes the answer
        writer.close()

    async with socket_server(early) as url, client_of(kind, url) as client:
        got = await post(client, body_of(*[bytes(1 << 20)] * 30))
        assert (got.status, got.body) == (413, b"too large")


async def test_a_cancelled_exchange_closes_its_connection(kind: str) -> None:
    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        await (hang if request.connection == 0 else responds(answer(b"ok")))(request, writer)

    async with serving(respond) as server, client_of(kind, server.url) as client:
        call = asyncio.create_task(post(client))
        while not server.requests:
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await post(client)).body == b"ok"
        assert [request.connection for request in server.requests] == [0, 1]


async def test_no_more_connections_than_allowed(kind: str) -> None:
    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        await responds(answer(b"ok"))(request, writer)

    async with serving(respond) as server, client_of(kind, server.url, max_connections=2) as client:
        await asyncio.gather(*(post(client) for _ in range(10)))
        assert server.connections == 2


async def test_closing_ends_the_exchanges_that_run(kind: str) -> None:
    async with serving(hang) as server:
        async with client_of(kind, server.url) as client:
            call = asyncio.create_task(post(client))
            while not server.requests:
                await asyncio.sleep(0.01)
        with pytest.raises(ExchangeError) as caught:
            await call
    assert (caught.value.fault, caught.value.was_sent) == (Fault.BROKEN, True)


def streaming(*chunks: bytes, pause: float = 0.0, end: bytes = b"0\r\n\r\n") -> Respond:
    async def respond(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for chunk in chunks:
            writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            await writer.drain()
            await asyncio.sleep(pause)
        writer.write(end)
        await writer.drain()

    return respond


def collect(into: list[bytes], last: bytes = b"-") -> Callable[[bytes], bool]:
    def take(chunk: bytes) -> bool:
        into.append(chunk)
        return chunk.endswith(last)

    return take


async def test_a_stream_is_passed_on_as_it_arrives(kind: str) -> None:
    taken: list[bytes] = []
    async with exchange(kind, streaming(b"a", b"b", b"c", pause=0.02)) as (client, server):
        got = await post_streamed(client, collect(taken))
        assert (got.was_streamed, got.body, got.has_an_end) == (True, b"", True)
        assert taken == [b"a", b"b", b"c"]
        await post_streamed(client, collect(taken))
        assert server.connections == 1


async def test_a_stream_ends_when_take_returns_true_and_its_connection_is_used_again(
    kind: str,
) -> None:
    async with exchange(kind, streaming(b"a", b"end", b"more", pause=0.02)) as (client, server):
        taken: list[bytes] = []
        assert (await post_streamed(client, collect(taken, b"end"))).was_streamed
        assert b"".join(taken) == b"aend"
        await asyncio.sleep(0.2)
        await post_streamed(client, collect(taken, b"end"))
        assert server.connections == 1


async def test_a_stream_whose_end_never_comes_keeps_its_answer(kind: str) -> None:
    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        await streaming(b"a", b"end", end=b"")(request, writer)
        await asyncio.sleep(30)

    async with exchange(kind, respond) as (client, server):
        assert (await post_streamed(client, collect([], b"end"))).was_streamed
        assert (await post_streamed(client, collect([], b"end"))).was_streamed
        assert server.connections == 2


@pytest.mark.parametrize("end", [b"", b"5\r\nab"])
async def test_a_truncated_stream_is_an_error_that_may_be_billed(kind: str, end: bytes) -> None:
    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        await streaming(b"a", b"b", end=end)(request, writer)
        writer.close()

    async with exchange(kind, respond) as (client, _):
        with pytest.raises(ExchangeError) as caught:
            await post_streamed(client, collect([]))
    assert (caught.value.fault, caught.value.was_sent) == (Fault.BROKEN, True)


async def test_a_silent_stream_is_an_error_at_the_silence_limit(kind: str) -> None:
    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)  # before the head: no silence of a stream yet
        await streaming(b"a", b"b", end=b"", pause=0.1)(request, writer)
        await asyncio.sleep(30)

    began = time.monotonic()
    async with exchange(kind, respond) as (client, _):
        with pytest.raises(ExchangeError, match="silent") as caught:
            await post_streamed(client, collect([]), silence_seconds=0.2)
    assert (caught.value.fault, caught.value.was_sent) == (Fault.TIMEOUT, True)
    assert 0.6 < time.monotonic() - began < 1.7


async def test_a_stream_above_the_limit_is_an_error(kind: str) -> None:
    async with exchange(kind, streaming(*[b"x" * 1000] * 20)) as (client, _):
        with pytest.raises(ExchangeError) as caught:
            await post_streamed(client, collect([]), max_bytes=9_999)
    assert caught.value.fault is Fault.TOO_LARGE


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (answer(b'{"a": 1}', "Content-Type: application/json"), 200),
        (answer(b'{"a": 1}', status="400 Bad"), 400),
    ],
)
async def test_an_answer_that_is_no_stream_is_returned_whole(
    kind: str, data: bytes, status: int
) -> None:
    taken: list[bytes] = []
    async with exchange(kind, responds(data)) as (client, _):
        got = await post_streamed(client, collect(taken))
    assert (got.status, got.body, got.was_streamed, taken) == (status, b'{"a": 1}', False, [])


async def test_an_error_of_take_is_raised_and_closes_the_connection(kind: str) -> None:
    def take(_chunk: bytes) -> bool:
        raise LookupError("malformed")

    async with exchange(kind, streaming(b"a", b"b")) as (client, server):
        for _ in range(2):
            with pytest.raises(LookupError):
                await post_streamed(client, take)
        assert server.connections == 2


@pytest.mark.parametrize("value", ["a\r\nX-B: c", "a\nb", "密"])
async def test_a_header_that_http_cannot_carry_is_never_sent(kind: str, value: str) -> None:
    if kind == "httpx" and not value.isascii():
        pytest.skip("httpx raises UnicodeEncodeError")
    async with exchange(kind, responds(answer(b"ok"))) as (client, server):
        with pytest.raises(ExchangeError) as caught:
            await post(client, headers={"X-A": value})
        assert not caught.value.was_sent
        assert server.requests == []


async def test_an_error_of_the_body_iterator_is_raised(kind: str) -> None:
    def chunks() -> AsyncIterator[bytes]:
        async def broken() -> AsyncIterator[bytes]:
            yield b"a"
            raise OSError("disk")

        return broken()

    async with exchange(kind, responds(answer(b"ok"))) as (client, server):
        with pytest.raises(OSError, match="disk"):
            await post(client, Body(9, "text/plain", chunks))
        await post(client)
        assert [request.body for request in server.requests] == [b"sound"]
