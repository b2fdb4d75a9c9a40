"""CPU time of one call to a provider, for three HTTP clients in one run.

python -m bench.http_client [--rounds 7] [--calls 400] [--tls]

The clients are unmodified httpx, the connections of app/net/http behind httpx's transport
interface, and DirectClient. The provider is a process of its own that reads a request and writes a
fixed answer. Rounds alternate, and the result is the median of the rounds: compare the columns, not
the absolute figures.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import ssl
import statistics
import time
from collections.abc import AsyncIterator, Callable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import uvloop

from app.net.client import open_client
from app.net.http.direct_client import DirectClient
from app.net.http.exchange import Body, HttpClient
from app.net.http.httpx_client import HttpxClient
from app.speech.engine import EncodedAudio
from app.speech.engines.http.json_body import AudioPlaceholder, json_with_audio
from tests.support.certificates import make_certificate

ROUTE = "/api/v1/services/aigc/multimodal-generation/generation"
HEADERS = {"Authorization": "Bearer sk-" + "x" * 32}
SOUND_BYTES = 161_000  # 10 s of mp3
LIMITS: dict[str, Any] = {"deadline_seconds": 60.0, "max_bytes": 8 << 20}
ANSWER = json.dumps(
    {
        "output": {"choices": [{"message": {"content": [{"text": "hello " * 30}]}}]},
        "usage": {"seconds": 10},
        "request_id": "568e2bf0-d6f2-97f8-9f15-a57b11dc6977",
    }
).encode()
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 30 Nov 2026 12:00:00 GMT\r\n"
    b"X-Request-Id: 568e2bf0-d6f2-97f8-9f15-a57b11dc6977\r\nServer: istio-envoy\r\n"
    b"Content-Length: %d\r\n\r\n"
)

Kind = Callable[[str], HttpClient]


class Provider(asyncio.Protocol):
    """Answers each request when its body is complete; ignores its content."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._left, self._head = 0, b""

    def data_received(self, data: bytes) -> None:
        if not self._left:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = b""
            self._left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        self._left -= len(data)
        if self._left <= 0:
            self._transport.write(HEAD % len(ANSWER) + ANSWER)


def serve(pipe: Pipe, certificate: Path | None = None) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        tls = None
        if certificate is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(certificate)
        server = await loop.create_server(Provider, "127.0.0.1", 0, ssl=tls)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


class Whole(httpx.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


class OverDirect(httpx.AsyncBaseTransport):
    """httpx's transport interface on the connections of DirectClient."""

    def __init__(self, url: str) -> None:
        self._client = direct(url)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = {
            name.decode(): value.decode()
            for name, value in request.headers.raw
            if name.lower() not in {b"host", b"content-length", b"content-type", b"accept",
                                    b"accept-encoding", b"user-agent", b"connection"}
        }  # fmt: skip
        stream = request.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        body = Body(int(request.headers["content-length"]), "application/json", lambda: stream)
        answer = await self._client.post(
            request.url.raw_path.decode(), body, headers=headers, **LIMITS
        )
        return httpx.Response(
            answer.status, headers=dict(answer.headers), stream=Whole(answer.body)
        )

    async def aclose(self) -> None:
        await self._client.close()


def direct(url: str) -> HttpClient:
    tls = httpx.create_ssl_context() if url.startswith("https:") else None
    return DirectClient(url, connect_seconds=5, silence_seconds=60, max_connections=100, tls=tls)


def plain_httpx(url: str) -> HttpClient:
    return HttpxClient(open_client(base_url=url, silence_seconds=60))  # trusts SSL_CERT_FILE


def behind_httpx(url: str) -> HttpClient:
    return HttpxClient(httpx.AsyncClient(base_url=url, transport=OverDirect(url)))


KINDS: dict[str, Kind] = {
    "httpx": plain_httpx,
    "ours behind httpx": behind_httpx,
    "ours": direct,
}


def with_sound() -> Body:
    placeholder = AudioPlaceholder()
    sound = EncodedAudio(bytes(SOUND_BYTES), "mp3", 10_000)
    return json_with_audio({"model": "m", "input": placeholder.mark}, placeholder, sound)


def small() -> Body:
    data = b'{"a": 1}'
    return Body(len(data), "application/json", lambda: (data,))


async def calls(client: HttpClient, body: Callable[[], Body], count: int, together: int) -> float:
    """Return the CPU microseconds of one call."""
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            answer = await client.post(ROUTE, body(), headers=HEADERS, **LIMITS)
            assert answer.status == 200

    await client.post(ROUTE, body(), headers=HEADERS, **LIMITS)
    began = time.process_time()
    await asyncio.gather(*(caller() for _ in range(together)))
    return (time.process_time() - began) / count * 1e6


async def measure(url: str, rounds: int, count: int) -> None:
    cases = [
        (f"{name}, {together} at once", body, together)
        for name, body in (("8 bytes", small), ("161 kB of sound", with_sound))
        for together in (1, 32)
    ]
    print(f"{'CPU us a call':32}", *(f"{kind:>18}" for kind in KINDS), sep="")
    for name, body, together in cases:
        found: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for _ in range(rounds):
            for kind, make in KINDS.items():
                client = make(url)
                found[kind].append(await calls(client, body, count, together))
                await client.close()
        medians = [statistics.median(found[kind]) for kind in KINDS]
        print(f"{name:32}", *(f"{one:18.0f}" for one in medians), sep="")
        print(f"{'  of httpx':32}", *(f"{one / medians[0]:18.2f}" for one in medians), sep="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder), "localhost") if options.tls else None
        if certificate is not None:
            os.environ["SSL_CERT_FILE"] = str(certificate)
        run(certificate, options.rounds, options.calls)


def run(certificate: Path | None, rounds: int, count: int) -> None:
    ours, theirs = multiprocessing.Pipe()
    spawn = multiprocessing.get_context("spawn")
    provider = spawn.Process(target=serve, args=(theirs, certificate))
    provider.start()
    scheme = "http" if certificate is None else "https"
    try:
        uvloop.run(measure(f"{scheme}://localhost:{ours.recv()}", rounds, count))
    finally:
        provider.terminate()
        provider.join()


if __name__ == "__main__":
    main()
