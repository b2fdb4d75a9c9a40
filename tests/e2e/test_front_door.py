"""The protocol layer on raw sockets: upgrade offers, endless heads, odd hosts, deaf clients.

Covers: app.api.http.protocol, app.server_errors
"""

import asyncio
import json
import socket
import time
from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response, StreamingResponse

from tests.support.served import (
    HEAD_BYTES,
    HEAD_SECONDS,
    SHORT,
    SLACK_SECONDS,
    Served,
    post,
    read_all,
    read_one,
    until,
)

H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
WEBSOCKET = (
    b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
LARGE = 2 << 20


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Served() as server:
        yield server


def read_answers(client: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Read answers with a Content-Length; return the status and body of each."""
    answers, rest = [], b""
    for _ in range(count):
        while b"\r\n\r\n" not in rest:
            rest += received(client)
        head, _, rest = rest.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(rest) < length:
            rest += received(client)
        answers.append((int(head.split()[1]), rest[:length]))
        rest = rest[length:]
    return answers


def received(client: socket.socket) -> bytes:
    data = client.recv(65536)
    assert data, "the connection was closed"
    return data


def problem_in(answer: bytes) -> tuple[int, str]:
    """Check that an answer is a problem with a request id; return its status and code."""
    head, _, body = answer.partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert b"content-type: application/problem+json" in head
    assert f"x-request-id: {problem['request_id']}".encode() in head
    assert b"connection: close" in head
    return problem["status"], problem["code"]


# ── upgrades ────────────────────────────────────────────────────────────────────────────────


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("cut", [1, 40, 150, 1000, 10**9], ids="cut at {}".format)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_h2c_offer_is_ignored_and_the_body_is_read(
    served: Served, framing: str, cut: int
) -> None:
    """CASES 1: a stock Java HttpClient over http offers an upgrade to HTTP/2."""
    body = b"a" * 300_000
    if framing == "length":
        head, sent = b"content-length: %d\r\n" % len(body), body
    else:
        head, sent = b"transfer-encoding: chunked\r\n", chunked(body, 7_001)
    data = b"POST /count HTTP/1.1\r\nhost: a\r\n" + H2C + head + b"\r\n" + sent
    with served.socket() as client:
        for piece in (data[:cut], data[cut:]):
            client.sendall(piece)
            time.sleep(0.02)
        client.sendall(data + SHORT)  # the connection is still HTTP/1.1
        assert read_answers(client, 3) == [(200, b"300000"), (200, b"300000"), (200, b'"hello"')]


def test_offers_in_a_pipeline_are_answered_in_turn(served: Served) -> None:
    """CASES 1: pipelined requests in one segment, with and without an offer."""
    offer = SHORT[:-2] + H2C + b"\r\n"
    with served.socket() as client:
        client.sendall((SHORT + offer) * 50)
        assert read_answers(client, 100) == [(200, b'"hello"')] * 100


@pytest.mark.parametrize("protocol", [b"TLS/1.0", b"HTTP/2.0, foo/2", b"h2c"])
def test_any_other_offer_is_ignored(served: Served, protocol: bytes) -> None:
    """CASES 1: RFC 9110 §7.8; a client may offer whatever it likes."""
    head = post("/count", 3)[:-2] + b"connection: upgrade\r\nupgrade: " + protocol + b"\r\n\r\n"
    with served.socket() as client:
        client.sendall(head + b"abc")
        assert read_answers(client, 1) == [(200, b"3")]


def test_connection_close_next_to_an_offer_is_obeyed(served: Served) -> None:
    """CASES 1: only the offer is removed from the Connection header."""
    with served.socket() as client:
        client.sendall(SHORT[:-2] + b"connection: close, upgrade\r\nupgrade: h2c\r\n\r\n")
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_websocket_receives_a_clear_refusal(
    served: Served, method: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """CASES 1: the client learns what to do, and the operator is not told to install anything."""
    with served.socket() as client:
        client.sendall(method + SHORT[3:-2] + WEBSOCKET + b"\r\n")
        assert problem_in(read_all(client)) == (400, "websocket_not_supported")
    logged = capfd.readouterr()
    assert "install" not in logged.err + logged.out


# ── the head ────────────────────────────────────────────────────────────────────────────────


def streaming() -> FastAPI:
    """An application with a large answer, a stream without end, and an answer that waits."""
    app = FastAPI()
    stops: list[bool] = []

    @app.get("/large")
    def large() -> Response:
        return Response(b"a" * LARGE)

    @app.post("/wait")
    async def wait(request: Request) -> None:
        async for _ in request.stream():
            pass
        while not await request.is_disconnected():
            stops.append(True)

    @app.get("/hello")
    def hello() -> str:
        return "hello"

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def pieces() -> object:
            while True:
                yield b"a" * 65536
                await asyncio.sleep(0)  # so that the server notices a disconnect

        return StreamingResponse(pieces())  # type: ignore[arg-type]

    return app


@pytest.fixture(scope="module")
def busy() -> Iterator[Served]:
    with Served(streaming(), max_connections=10, write_timeout_seconds=1) as server:
        yield server


def send_until_closed(client: socket.socket) -> int:
    """Send a header's value until the connection is closed; return the number of bytes."""
    client.settimeout(5)
    sent = 0
    try:
        while sent < 64 << 20:
            sent += client.send(b"a" * 65536)
            time.sleep(0.001)
    except ConnectionError:
        return sent
    pytest.fail(f"{sent} bytes of a head were taken")


def test_a_head_without_end_behind_answers_that_are_not_read(busy: Served) -> None:
    """ATTACKS H1: three large answers are under way, and the fourth head never ends."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(busy.address)
        for _ in range(3):
            client.sendall(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n")
            time.sleep(0.05)
        client.sendall(b"GET / HTTP/1.1\r\nX: ")
        assert send_until_closed(client) < 16 << 20


def test_a_head_without_end_in_the_segment_that_ends_an_upload(busy: Served) -> None:
    """ATTACKS H1: the answer to the upload is still awaited when the head begins."""
    with busy.socket() as client:
        client.sendall(post("/wait", 3) + b"abc" + b"GET / HTTP/1.1\r\nX: ")
        time.sleep(0.1)  # so that the server reads the two in two reads
        client.sendall(b"a" * (HEAD_BYTES + 1))
        assert problem_in(read_all(client)) == (431, "request_head_too_large")


def test_a_late_head_behind_an_answer_that_is_awaited(busy: Served) -> None:
    """ATTACKS H1: the deadline counts from the head's first byte, whatever else goes on."""
    with busy.socket() as client:
        started = time.monotonic()
        client.sendall(post("/wait", 3) + b"abc" + b"GET / HTTP/1.1\r\nX: ")
        assert problem_in(read_all(client)) == (408, "request_head_too_slow")
    assert HEAD_SECONDS - 0.1 < time.monotonic() - started < HEAD_SECONDS + SLACK_SECONDS


def test_a_long_answer_has_no_deadline_of_a_head(busy: Served) -> None:
    """ATTACKS H1: while no head is under way, a wait may last."""
    with busy.socket() as client:
        client.sendall(post("/wait", 3) + b"abc")
        client.settimeout(HEAD_SECONDS + 0.5)
        with pytest.raises(TimeoutError):
            client.recv(1)


@pytest.mark.parametrize(
    "hosts",
    [
        b"host: 127.0.0.1\r\nhost: evil.example\r\n",
        b"host: a\r\nhost: a\r\n",
        b"",
        b"host: evil@127.0.0.1\r\n",
        b"host: a/b\r\n",
        b"host: a, b\r\n",
    ],
)
def test_a_request_names_one_host(served: Served, hosts: bytes) -> None:
    """ATTACKS L7, L6: RFC 9112 §3.2."""
    with served.socket() as client:
        client.sendall(b"GET /hello HTTP/1.1\r\n" + hosts + b"\r\n")
        assert problem_in(read_all(client)) == (400, "invalid_request")


@pytest.mark.parametrize("host", [b"a.example:80", b"[::1]:8000", b"127.0.0.1", b"a_b", b""])
def test_usual_hosts_are_accepted(served: Served, host: bytes) -> None:
    """ATTACKS L7."""
    with served.socket() as client:
        client.sendall(SHORT.replace(b"host: a", b"host: " + host))
        assert read_one(client).startswith(b"HTTP/1.1 200 ")


def test_the_host_of_an_absolute_target_counts() -> None:
    """ATTACKS L7: the Host header next to it is ignored (RFC 9112 §3.2.2)."""
    app = FastAPI()

    @app.get("/host")
    def host(request: Request) -> Response:
        return Response(",".join(request.headers.getlist("host")))

    with Served(app) as server, server.socket() as client:
        client.sendall(b"GET http://evil.example/host HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert read_answers(client, 1) == [(200, b"evil.example")]
        client.sendall(b"GET http://u@evil.example/host HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert problem_in(read_all(client)) == (400, "invalid_request")


@pytest.mark.parametrize(("seconds", "others"), [(1, 0), (75, 0), (75, 2)])
def test_idle_connections_stay_open_for_the_keep_alive_time(seconds: int, others: int) -> None:
    """CASES 7: 75 s by default; less where connections run short."""
    with Served(keep_alive_seconds=seconds, max_connections=5, header_timeout_seconds=60) as server:
        clients = [socket.create_connection(server.address) for _ in range(others)]
        with server.socket() as client:
            client.sendall(SHORT)
            read_one(client)
            started = time.monotonic()
            client.settimeout(6.5)
            if seconds == 75 and not others:
                with pytest.raises(TimeoutError):
                    client.recv(1)
            else:
                assert read_all(client) == b""
                expected = 5 if others else seconds
                assert expected - 0.1 < time.monotonic() - started < expected + SLACK_SECONDS
        for other in clients:
            other.close()


# ── faults of the protocol layer ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"NONSENSE\r\n\r\n", (400, "invalid_request")),
        (SHORT[:-2] + b"x: " + b"a" * 70_000, (431, "request_head_too_large")),
        (SHORT[:-2], (408, "request_head_too_slow")),
        (b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", (400, "invalid_request")),
    ],
    ids=["400", "431", "408", "CONNECT"],
)
def test_a_fault_of_a_connection_is_a_problem(
    served: Served, sent: bytes, expected: tuple[int, str]
) -> None:
    """CASES 12."""
    with served.socket() as client:
        client.sendall(sent)
        assert problem_in(read_all(client)) == expected


def test_too_many_connections_are_a_problem_with_retry_after() -> None:
    """CASES 12."""
    with Served(max_connections=1) as server, server.socket(), server.socket() as client:
        until(lambda: server.connections() == 2)
        client.sendall(SHORT)
        answer = read_all(client)
    assert problem_in(answer) == (503, "too_many_connections")
    assert b"retry-after: 1\r\n" in answer.lower()


# ── clients that do not read ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", [b"/large", b"/stream"])
@pytest.mark.parametrize("more", [b"", b"connection: close\r\n"], ids=["kept alive", "close"])
def test_clients_that_do_not_read_are_given_up(busy: Served, path: bytes, more: bytes) -> None:
    """ATTACKS H2: they hold all connections, until the write timeout."""
    clients = [socket.socket() for _ in range(12)]
    try:
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(busy.address)
            client.sendall(b"GET " + path + b" HTTP/1.1\r\nhost: a\r\n" + more + b"\r\n")
        until(lambda: busy.connections() > 0)
        until(lambda: busy.connections() == 0)
        with busy.socket() as client:
            client.sendall(SHORT)
            assert read_one(client).startswith(b"HTTP/1.1 200 ")
    finally:
        for client in clients:
            client.close()


def test_a_slow_reader_receives_its_whole_answer(busy: Served) -> None:
    """ATTACKS H2: progress counts, not the time of an answer."""
    read = 0
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect(busy.address)
        client.sendall(b"GET /large HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        while data := client.recv(65536):
            read += len(data)
            time.sleep(0.06)
    assert read > LARGE


def test_the_kernel_has_the_write_timeout(busy: Served) -> None:
    """ATTACKS H2: it covers answers that fit the buffers, and clients that have vanished."""
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("this system has no TCP_USER_TIMEOUT")
    with busy.socket() as client:
        client.sendall(SHORT)
        read_one(client)
        (connection,) = busy.server.server_state.connections
        kernel = connection.transport.get_extra_info("socket")
        assert kernel.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1000


def test_the_unspecified_ipv6_address_takes_both_families() -> None:
    """CASES 11: `::` was IPv6 only."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this system has no sockets for both families")
    with Served(host="::") as server:
        for address in ("127.0.0.1", "::1"):
            with socket.create_connection((address, server.address[1]), 5) as client:
                client.sendall(SHORT)
                assert read_one(client).startswith(b"HTTP/1.1 200 ")
