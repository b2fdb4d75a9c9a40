"""The server on real sockets: timeouts of slow clients, rejected requests, shutdown by signals.

Covers: app.api.http.body_rate, app.api.http.lingering, app.api.http.middleware,
app.api.http.problems, app.serve
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from app.api.http.lingering import LINGER_BYTES, LINGER_SECONDS
from tests.support.served import (
    HEAD_BYTES,
    HEAD_SECONDS,
    SHORT,
    SLACK_SECONDS,
    TIMEOUT_SECONDS,
    Served,
    post,
    read_all,
    read_one,
    until,
)

MIB = 1 << 20


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Served() as server:
        yield server


# ── the head ────────────────────────────────────────────────────────────────────────────────


def test_a_connection_without_a_request_is_closed_without_an_answer(served: Served) -> None:
    with served.socket() as client:
        started = time.monotonic()
        assert read_all(client) == b""
    assert HEAD_SECONDS - 0.1 < time.monotonic() - started < HEAD_SECONDS + SLACK_SECONDS


def test_incomplete_headers_receive_408(served: Served) -> None:
    with served.socket() as client:
        started = time.monotonic()
        client.sendall(SHORT[:-2])
        assert read_all(client).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - started < HEAD_SECONDS + SLACK_SECONDS


def test_headers_sent_byte_by_byte_have_the_same_deadline(served: Served) -> None:
    with served.socket() as client:
        started = time.monotonic()
        for byte in SHORT[:-1] * 100:
            readable, _, _ = select.select([client], [], [], 0.05)
            if readable:
                break
            client.sendall(bytes([byte]))
        assert read_all(client).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - started < HEAD_SECONDS + SLACK_SECONDS


@pytest.mark.parametrize("lead", [b"G", b"\r\n"], ids=["half a method", "empty lines"])
def test_the_deadline_also_holds_after_an_answer(served: Served, lead: bytes) -> None:
    with served.socket() as client:
        client.sendall(SHORT)
        assert read_one(client).startswith(b"HTTP/1.1 200 ")
        started = time.monotonic()
        client.sendall(lead)
        assert read_all(client).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - started < HEAD_SECONDS + SLACK_SECONDS


def test_a_keep_alive_connection_serves_many_requests(served: Served) -> None:
    with served.socket() as client:
        for _ in range(5):
            client.sendall(SHORT)
            assert read_one(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"], ids=["unfinished", "finished"])
@pytest.mark.parametrize("field", [b"x: ", b"x: 1\r\n" * 12_000 + b"y: "], ids=["one", "many"])
def test_headers_of_70_kb_receive_431_at_once(served: Served, field: bytes, end: bytes) -> None:
    with served.socket() as client:
        started = time.monotonic()
        client.sendall(SHORT[:-2] + field + b"a" * 70_000 + end)
        assert read_one(client).startswith(b"HTTP/1.1 431 ")
    assert time.monotonic() - started < HEAD_SECONDS


def test_a_large_body_in_the_packet_of_its_headers_does_not_count_as_headers(
    served: Served,
) -> None:
    with served.socket() as client:
        client.sendall(post("/count", 200_000) + b"a" * 200_000)
        assert read_one(client).startswith(b"HTTP/1.1 200 ")


def test_headers_just_below_the_limit_are_accepted(served: Served) -> None:
    with served.socket() as client:
        client.sendall(SHORT[:-2] + b"x: " + b"a" * (HEAD_BYTES - len(SHORT) - 5) + b"\r\n\r\n")
        assert read_one(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("noise", [b"\x16\x03\x01\x02\x00", b"NONSENSE\r\n\r\n", b"\x00" * 100])
def test_random_bytes_receive_400(served: Served, noise: bytes) -> None:
    with served.socket() as client:
        client.sendall(noise)
        assert read_one(client).startswith(b"HTTP/1.1 400 ")


def test_five_hundred_incomplete_requests_time_out_without_effect_on_others() -> None:
    with Served() as server:
        started = time.monotonic()
        half_open = [socket.create_connection(server.address) for _ in range(500)]
        try:
            for client in half_open:
                client.sendall(SHORT[:-2])
            with server.socket() as client:
                asked = time.monotonic()
                client.sendall(SHORT)
                assert read_one(client).startswith(b"HTTP/1.1 200 ")
                assert time.monotonic() - asked < SLACK_SECONDS
            until(lambda: server.connections() == 0)
            assert time.monotonic() - started < HEAD_SECONDS + SLACK_SECONDS
        finally:
            for client in half_open:
                client.close()


# ── the body ────────────────────────────────────────────────────────────────────────────────


def test_a_body_without_data_receives_408(served: Served) -> None:
    with served.socket() as client:
        client.sendall(post("/count", 1000) + b"a")
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_too_slow"' in answer
    assert b"connection: close" in answer


def test_a_slow_body_receives_408(served: Served) -> None:
    with served.socket() as client:
        started = time.monotonic()
        client.sendall(post("/count", 1000))
        while not select.select([client], [], [], 0.05)[0]:
            client.sendall(b"a")
            assert time.monotonic() - started < TIMEOUT_SECONDS
        assert read_one(client).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - started < 0.5 + SLACK_SECONDS


def test_a_usual_body_arrives_completely(served: Served) -> None:
    with served.socket() as client:
        client.sendall(post("/count", 20 * MIB) + b"a" * (20 * MIB))
        assert read_one(client).startswith(b"HTTP/1.1 200 ")


def send_until_answered(client: socket.socket, size: int) -> tuple[int, float]:
    """Send until an answer can be read, like curl. Return the number of bytes and the seconds."""
    client.setblocking(False)  # noqa: FBT003
    piece, sent, started = b"a" * 65536, 0, time.monotonic()
    while sent < size:
        readable, writable, _ = select.select([client], [client], [], TIMEOUT_SECONDS)
        if readable:
            break
        if writable:
            sent += client.send(piece)
    client.setblocking(True)  # noqa: FBT003
    return sent, time.monotonic() - started


@pytest.mark.parametrize(("path", "status"), [("/locked", b"401"), ("/nowhere", b"404")])
def test_an_uploader_that_listens_reads_the_answer_early(
    served: Served, path: str, status: bytes
) -> None:
    with served.socket() as client:
        client.sendall(post(path, 50 * MIB))
        sent, seconds = send_until_answered(client, 50 * MIB)
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"connection: close" in answer
    assert answer.endswith(b"}")
    assert sent < 10 * MIB
    assert seconds < SLACK_SECONDS


def test_an_uploader_that_sends_everything_first_is_held_back_and_still_reads_it(
    served: Served,
) -> None:
    with served.socket() as client:
        client.sendall(post("/locked", 50 * MIB))
        started = time.monotonic()
        with pytest.raises(ConnectionError):
            client.sendall(b"a" * (50 * MIB))
        assert LINGER_SECONDS - 0.5 < time.monotonic() - started < LINGER_SECONDS + SLACK_SECONDS
        assert read_all(client).startswith(b"HTTP/1.1 401 ")


def test_a_small_upload_is_read_to_its_end_and_answered_without_a_reset(served: Served) -> None:
    body = b"a" * (LINGER_BYTES // 2)
    with served.socket() as client:
        started = time.monotonic()
        client.sendall(post("/locked", len(body)))
        client.sendall(body)
        answer = b""
        while chunk := client.recv(65536):  # a reset would raise
            answer += chunk
        assert answer.startswith(b"HTTP/1.1 401 ")
    assert time.monotonic() - started < SLACK_SECONDS


def test_a_body_that_the_application_does_not_read_is_read_for_a_limited_time() -> None:
    bare = FastAPI()  # without BodyRate nothing says `connection: close`
    bare.add_api_route("/early", lambda: "early", methods=["POST"])
    with Served(bare) as server, server.socket() as client:
        client.sendall(post("/early", 50 * MIB))
        sent, _ = send_until_answered(client, 50 * MIB)
        answer = read_one(client)
        started = time.monotonic()
        with pytest.raises(ConnectionError):
            client.sendall(b"a" * (50 * MIB - sent))
        answer += read_all(client)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b"HTTP/1.1") == 1
        assert time.monotonic() - started < LINGER_SECONDS + SLACK_SECONDS
        until(lambda: server.connections() == 0)


def test_expect_100_continue_is_refused_before_a_byte_is_sent(served: Served) -> None:
    head = post("/locked", 50 * MIB)[:-2] + b"expect: 100-continue\r\n\r\n"
    with served.socket() as client:
        client.sendall(head)
        assert read_one(client).startswith(b"HTTP/1.1 401 ")


def test_an_invalid_chunk_receives_400(served: Served) -> None:
    head = b"POST /count HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    with served.socket() as client:
        client.sendall(head + b"zz\r\n")
        assert read_one(client).startswith(b"HTTP/1.1 400 ")


def test_connections_above_the_limit_receive_503() -> None:
    with Served(max_connections=2) as server:
        with server.socket(), server.socket(), server.socket() as client:
            until(lambda: server.connections() == 3)
            client.sendall(SHORT)
            assert read_one(client).startswith(b"HTTP/1.1 503 ")
        until(lambda: server.connections() == 0)
        with server.socket(), server.socket() as client:
            client.sendall(SHORT)
            assert read_one(client).startswith(b"HTTP/1.1 200 ")


# ── the process ─────────────────────────────────────────────────────────────────────────────

PROGRAM = """
import asyncio, sys
from contextlib import asynccontextmanager
from fastapi import FastAPI
from starlette.responses import StreamingResponse
from app import serve as server
from app.kit.log import configure
from app.settings import ServerSettings

closing = asyncio.Event()

@asynccontextmanager
async def lifespan(app):
    if "fail" in sys.argv:
        raise RuntimeError("no database")
    yield
    print("closed", flush=True)

async def ticks():
    yield b"open"
    await closing.wait()
    yield b"bye"

async def short():
    return {}

app = FastAPI(lifespan=lifespan)
app.add_api_route("/short", short)
app.add_api_route("/stream", lambda: StreamingResponse(ticks()))
app.state.begin_shutdown = closing.set
configure(line_format="json")
limits = ServerSettings(port=0, shutdown_seconds=5)
sys.exit(server.run_server(app, limits, server.bind(limits)))
"""


@contextmanager
def program(*args: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"WEB_CONCURRENCY": "4"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def port_said(process: "subprocess.Popen[str]") -> int:
    assert process.stderr is not None
    line = next(line for line in process.stderr if "server.listening" in line)
    return int(json.loads(line)["port"])


@pytest.mark.parametrize("wish", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_ends_streams_and_exits_with_0(wish: signal.Signals) -> None:
    with program() as process:
        with socket.create_connection(("127.0.0.1", port_said(process)), 10) as client:
            client.sendall(b"GET /stream HTTP/1.1\r\nhost: a\r\n\r\n")
            answer = read_one(client)
            while b"open" not in answer:
                answer += client.recv(65536)
            started = time.monotonic()
            process.send_signal(wish)
            assert b"bye" in read_all(client)
        assert process.wait(TIMEOUT_SECONDS) == 0
        assert time.monotonic() - started < 2
        assert process.stdout is not None
        assert process.stdout.read() == "closed\n"


def writes_of(pid: int) -> int:
    """Return the number of write system calls of a process."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("syscw"))


def test_a_short_answer_is_one_write() -> None:
    requests = 50
    with (
        program() as process,
        socket.create_connection(("127.0.0.1", port_said(process)), 10) as client,
    ):
        for number in range(requests + 1):
            client.sendall(b"GET /short HTTP/1.1\r\nhost: a\r\n\r\n")
            answer = b""
            while not answer.endswith(b"\r\n\r\n{}"):
                answer += client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 ")
            if number == 0:
                before = writes_of(process.pid)
        assert writes_of(process.pid) - before == requests


def test_a_failed_start_exits_with_1() -> None:
    with program("fail") as process:
        assert process.wait(TIMEOUT_SECONDS) == 1


def test_a_port_in_use_is_an_error_of_one_sentence(tmp_path: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "app.serve"],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
            env=os.environ
            | {"GATEWAY_SERVER__PORT": str(port), "GATEWAY_DATA_DIR": str(tmp_path / "data")},
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Port {port} on 127.0.0.1 is taken by another program. Stop that program, "
        "or set GATEWAY_SERVER__PORT to a free port.\n"
    )
    assert not (tmp_path / "data").exists()
