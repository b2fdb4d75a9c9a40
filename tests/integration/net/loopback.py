"""A server on loopback whose answers a test writes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.support.stub_server import socket_server

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """Serve `answer(path, writer)` for each request; yields the base address."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await answer(head.split()[1].decode(), writer)

    async with socket_server(handle) as url:
        yield url


async def send(
    writer: asyncio.StreamWriter, body: bytes, *, status: str = "200 OK", claimed: int | None = None
) -> None:
    """Write a complete answer. `claimed` is the length in its header, which may be too large."""
    size = len(body) if claimed is None else claimed
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n".encode() + body)
    await writer.drain()


async def redirect(writer: asyncio.StreamWriter, to: str) -> None:
    writer.write(f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode())
    await writer.drain()
