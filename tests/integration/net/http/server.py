"""A server on loopback whose bytes a test writes, and the two HTTP clients."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.net.client import open_client
from app.net.http.direct_client import DirectClient
from app.net.http.exchange import Answer, Body, HttpClient
from app.net.http.httpx_client import HttpxClient
from tests.support.stub_server import socket_server

LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]
MAX_BYTES = 1 << 20


@dataclass
class Request:
    """A received request, and the number of its connection, from 0."""

    connection: int
    head: str
    body: bytes


Respond = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    closed: list[int] = field(default_factory=list)


@asynccontextmanager
async def serving(respond: Respond) -> AsyncIterator[Server]:
    """Serve every request of every connection with `respond`."""
    server = Server()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, server.connections = server.connections, server.connections + 1
        try:
            while (request := await read_request(reader, number)) is not None:
                server.requests.append(request)
                await respond(request, writer)
                if writer.is_closing():
                    return
        finally:
            server.closed.append(number)

    async with socket_server(handle) as server.url:
        yield server


async def read_request(reader: asyncio.StreamReader, number: int) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    length = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
    return Request(number, head, await reader.readexactly(int(length or 0)))


def responds(data: bytes, *, close: bool = False) -> Respond:
    """Return a responder that writes these bytes."""

    async def respond(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if close:
            writer.close()

    return respond


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {status}\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def make_client(kind: str, url: str, **options: Any) -> HttpClient:
    """Return a client of one kind; `options` are those of DirectClient."""
    given = {"connect_seconds": 5.0, "silence_seconds": 5.0, "max_connections": 10} | options
    if kind == "direct":
        return DirectClient(url, **given)
    tls = given.pop("tls", None)
    assert tls is None
    return HttpxClient(open_client(base_url=url, proxies=False, **given))


@asynccontextmanager
async def client_of(kind: str, url: str, **options: Any) -> AsyncIterator[HttpClient]:
    client = make_client(kind, url, **options)
    try:
        yield client
    finally:
        await client.close()


def body_of(*chunks: bytes) -> Body:
    return Body(sum(map(len, chunks)), "text/plain", lambda: iter(chunks))


async def post(
    client: HttpClient, body: Body | None = None, path: str = "/a", **options: Any
) -> Answer:
    given: dict[str, Any] = {"headers": {}, "deadline_seconds": 5.0, "max_bytes": MAX_BYTES}
    return await client.post(path, body or body_of(b"sound"), **given | options)


async def post_streamed(
    client: HttpClient, take: Callable[[bytes], bool], body: Body | None = None, **options: Any
) -> Answer:
    given: dict[str, Any] = {"headers": {}, "deadline_seconds": 5.0, "max_bytes": MAX_BYTES}
    given["silence_seconds"] = 5.0
    return await client.post_streamed("/a", body or body_of(b"sound"), take, **given | options)
