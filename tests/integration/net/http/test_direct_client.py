"""Connections of the direct client: idle, lost and TLS connections; the choice of the client.

Covers: app.net.http.direct_client, app.net.http.connection, app.net.http.dial,
app.net.http.selection
"""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest

from app.net.http import direct_client
from app.net.http.dial import dial, dial_first
from app.net.http.direct_client import DirectClient
from app.net.http.exchange import ExchangeError, Fault
from app.net.http.httpx_client import HttpxClient
from app.net.http.selection import open_http_client
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
    read_request,
    responds,
    serving,
)
from tests.support.certificates import make_certificate

pytestmark = pytest.mark.anyio
OK = answer(b"ok")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


async def test_a_connection_that_the_server_has_closed_is_not_used_again() -> None:
    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        await responds(OK)(request, writer)
        await asyncio.sleep(0.02)
        writer.close()

    async with serving(respond) as server, client_of("direct", server.url) as client:
        for _ in range(3):
            assert (await post(client)).body == b"ok"
            await asyncio.sleep(0.1)
        assert server.connections == 3


@contextmanager
def closes_after_an_answer(pause: float) -> Iterator[tuple[str, list[bytes]]]:
    """Run a server in a thread that answers once per connection and closes it after a pause."""
    requests: list[bytes] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    requests.append(connection.recv(1 << 16))
                    connection.sendall(OK)
                    time.sleep(pause)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


async def test_a_closed_connection_is_noticed_before_the_event_loop_has_read_its_end() -> None:
    with closes_after_an_answer(0.05) as (url, requests):
        async with client_of("direct", url) as client:
            await post(client)
            time.sleep(0.2)  # noqa: ASYNC251 - the loop sees nothing of the end meanwhile
            assert (await post(client)).body == b"ok"
    assert len(requests) == 2


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_request_on_a_connection_that_is_closed_meanwhile_is_not_sent_again(
    *, is_reset: bool
) -> None:
    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        if len(server.requests) == 2:
            if is_reset:
                writer.transport.abort()
            writer.close()
            return
        await responds(OK)(request, writer)

    async with serving(respond) as server, client_of("direct", server.url) as client:
        await post(client)
        with pytest.raises(ExchangeError) as caught:
            await post(client, body_of(b"billed"))
        assert (caught.value.fault, caught.value.was_sent) == (Fault.BROKEN, True)
        assert (await post(client)).body == b"ok"
        assert [request.body for request in server.requests] == [b"sound", b"billed", b"sound"]


async def test_an_idle_connection_on_which_bytes_come_is_closed() -> None:
    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        await responds(OK)(request, writer)
        await asyncio.sleep(0.02)
        writer.write(OK)

    async with serving(respond) as server, client_of("direct", server.url) as client:
        for _ in range(3):
            assert (await post(client)).body == b"ok"
            await asyncio.sleep(0.1)
        assert server.connections == 3


async def test_idle_connections_are_closed_after_some_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(direct_client, "IDLE_SECONDS", 0.2)
    both = asyncio.Barrier(2)

    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        if len(server.requests) <= 2:
            await both.wait()
        await responds(OK)(request, writer)

    async with serving(respond) as server, client_of("direct", server.url) as client:
        await asyncio.gather(post(client), post(client))
        for _ in range(4):
            await asyncio.sleep(0.1)
            await post(client)
        assert len(server.closed) == 1  # the other one was never idle for so long
        assert server.connections == 2
        await asyncio.sleep(0.5)
        assert len(server.closed) == 2


async def test_a_closed_client_makes_no_connection() -> None:
    async with serving(responds(OK)) as server:
        async with client_of("direct", server.url) as client:
            await post(client)
        with pytest.raises(ExchangeError) as caught:
            await post(client)
        assert (caught.value.fault, caught.value.was_sent) == (Fault.UNREACHABLE, False)
        await asyncio.sleep(0.05)
        assert server.closed == list(range(server.connections))


async def test_waiting_for_a_connection_ends_at_the_deadline() -> None:
    async def hang(_request: Request, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async with (
        serving(hang) as server,
        client_of("direct", server.url, max_connections=1) as client,
    ):
        running = asyncio.create_task(post(client))
        await asyncio.sleep(0.05)
        with pytest.raises(ExchangeError) as caught:
            await post(client, deadline_seconds=0.1)
        running.cancel()
    assert (caught.value.fault, caught.value.was_sent) == (Fault.TIMEOUT, False)


# TLS


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"), "localhost")


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the certificate through SSL_CERT_FILE, as an operator does."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


@asynccontextmanager
async def serving_tls(certificate: Path, respond: Respond) -> AsyncIterator[Server]:
    """Serve `respond` over TLS at localhost."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server, running = Server(), set[asyncio.Task[None]]()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        number, server.connections = server.connections, server.connections + 1
        while (request := await read_request(reader, number)) is not None:
            server.requests.append(request)
            await respond(request, writer)
            if writer.is_closing():
                break
        writer.transport.abort()

    started = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    server.url = f"https://localhost:{started.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        started.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[DirectClient]:
    client = open_http_client(url)
    assert isinstance(client, DirectClient)
    try:
        yield client
    finally:
        await client.close()


@pytest.mark.usefixtures("trusted")
async def test_requests_over_tls(certificate: Path) -> None:
    async def echo(request: Request, writer: asyncio.StreamWriter) -> None:
        await responds(answer(request.body))(request, writer)

    pieces = [bytes([n]) * 100_000 for n in range(50)]
    async with serving_tls(certificate, echo) as server, opened(server.url) as client:
        assert (await post(client)).body == b"sound"
        got = await post(client, body_of(*pieces), max_bytes=1 << 24)
        assert got.body == b"".join(pieces)
        assert server.connections == 1
        assert f"host: {server.url.removeprefix('https://')}\r\n" in server.requests[0].head.lower()


@pytest.mark.usefixtures("trusted")
async def test_a_stream_over_tls(certificate: Path) -> None:
    taken: list[bytes] = []
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    async with serving_tls(certificate, responds(data)) as server, opened(server.url) as client:
        got = await post_streamed(client, lambda chunk: bool(taken.append(chunk)))
    assert (got.was_streamed, taken) == (True, [b"a"])


@pytest.mark.usefixtures("trusted")
async def test_an_answer_over_tls_that_is_cut_is_an_error(certificate: Path) -> None:
    whole = answer(b"hello")
    for end in range(0, len(whole), 7):
        cut = responds(whole[:end], close=True)
        async with serving_tls(certificate, cut) as server, opened(server.url) as client:
            with pytest.raises(ExchangeError) as caught:
                await post(client)
        assert (caught.value.fault, caught.value.was_sent) == (Fault.BROKEN, True)


async def refusal(url: str) -> ExchangeError:
    async with opened(url) as client:
        with pytest.raises(ExchangeError) as caught:
            await post(client)
    return caught.value


async def test_an_untrusted_certificate_is_rejected(certificate: Path) -> None:
    async with serving_tls(certificate, responds(OK)) as server:
        error = await refusal(server.url)
    assert (error.fault, error.was_sent) == (Fault.UNREACHABLE, False)
    assert server.requests == []


@pytest.mark.usefixtures("trusted")
async def test_a_certificate_for_another_name_is_refused(certificate: Path) -> None:
    async with serving_tls(certificate, responds(OK)) as server:
        error = await refusal(server.url.replace("localhost", "127.0.0.1"))
    assert (error.fault, error.was_sent) == (Fault.UNREACHABLE, False)
    assert server.requests == []


@pytest.mark.usefixtures("trusted")
async def test_a_server_without_tls_is_unreachable() -> None:
    async def plain(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        error = await refusal(f"https://localhost:{server.sockets[0].getsockname()[1]}")
    assert (error.fault, error.was_sent) == (Fault.UNREACHABLE, False)


@pytest.mark.parametrize(
    ("connect", "deadline", "fault"), [(0.2, 5, Fault.UNREACHABLE), (5, 0.2, Fault.TIMEOUT)]
)
async def test_a_handshake_that_never_ends_is_given_up(
    connect: float, deadline: float, fault: Fault
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        context = ssl.create_default_context()
        async with client_of("direct", url, connect_seconds=connect, tls=context) as client:
            began = time.monotonic()
            with pytest.raises(ExchangeError) as caught:
                await post(client, deadline_seconds=deadline)
    assert (caught.value.fault, caught.value.was_sent) == (fault, False)
    assert time.monotonic() - began < 2


# Addresses


async def test_every_address_of_a_host_is_tried() -> None:
    async with serving(responds(OK)) as server:
        url = server.url.replace("127.0.0.1", "localhost")  # ::1 as well, without a listener
        async with client_of("direct", url) as client:
            assert (await post(client)).body == b"ok"


async def test_an_address_that_does_not_answer_delays_the_next_one_only_a_little() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as good, full() as silent:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
        began = time.monotonic()
        connected = await dial_first([(*kind, silent), (*kind, good.getsockname())])
        with connected:
            assert connected.getpeername() == good.getsockname()
        assert 0.2 < time.monotonic() - began < 1


@contextmanager
def full() -> Iterator[tuple[str, int]]:
    """Yield the address of a server that accepts no further connections."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as listener:
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)  # noqa: FBT003 - the signature of sockets
            one.connect_ex(address)
        time.sleep(0.05)
        try:
            yield address
        finally:
            for one in waiting:
                one.close()


async def test_the_last_failure_is_raised_where_no_address_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        await dial("127.0.0.1", port)
    with pytest.raises(OSError, match="no address"):
        await dial_first([])


# The choice of a client


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://127.0.0.1:1", DirectClient),
        ("https://host.test/base", DirectClient),
        ("http://[::1]:80/", DirectClient),
        ("http://user:password@host.test", HttpxClient),
        ("http://bücher.test", HttpxClient),
        ("http://host.test/a b", DirectClient),
        ("http://host.test?a=b", HttpxClient),
        ("ftp://host.test", HttpxClient),
    ],
)
async def test_addresses_that_only_httpx_knows_are_left_to_it(url: str, kind: type) -> None:
    client = open_http_client(url)
    assert type(client) is kind
    await client.close()


@asynccontextmanager
async def proxy() -> AsyncIterator[Server]:
    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        await responds(answer(b"by proxy"))(request, writer)

    async with serving(respond) as server:
        yield server


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_a_proxy_of_the_environment_is_used(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy() as server:
        monkeypatch.setenv(name, server.url)
        client = open_http_client("http://upstream.test/base")
        assert isinstance(client, HttpxClient)
        try:
            assert (await post(client)).body == b"by proxy"
        finally:
            await client.close()
    (request,) = server.requests
    assert request.head.startswith("POST http://upstream.test/base/a HTTP/1.1\r\n")


async def test_a_host_that_needs_no_proxy_is_called_directly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with serving(responds(OK)) as server, opened(server.url) as client:
        assert (await post(client)).body == b"ok"
