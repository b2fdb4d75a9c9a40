"""Web servers of third parties on loopback, correct and faulty, for URLs of audio.

Nothing here uses an HTTP library, so that a server can break every rule of the protocol.
"""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

DRIP_SECONDS = 0.02


@dataclass(frozen=True)
class ReceivedRequest:
    """One received request. Header names are in lower case."""

    path: str
    headers: Mapping[str, str]


Page = Callable[[ReceivedRequest, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class WebServer:
    """A web server. `pages` are by path without query; other paths are 404."""

    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[ReceivedRequest] = field(default_factory=list)
    port: int = 0
    host: str = "127.0.0.1"

    def url(self, path: str, *, scheme: str = "http", host: str = "") -> str:
        return f"{scheme}://{host or self.host}:{self.port}{path}"

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            named = (line.partition(": ") for line in head[1:] if line)
            asked = ReceivedRequest(
                head[0].split(" ")[1], {name.lower(): value for name, _, value in named}
            )
            self.asked.append(asked)
            page = self.pages.get(asked.path.partition("?")[0], answer("404 Not Found", b"gone"))
            await page(asked, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(
    *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[WebServer]:
    """Run a server without pages."""
    source = WebServer(host=host)
    server = await asyncio.start_server(source, host, port, ssl=tls)
    source.port = server.sockets[0].getsockname()[1]
    try:
        yield source
    finally:
        server.close()


def head(status: str, **headers: object) -> bytes:
    lines = [f"HTTP/1.1 {status}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode()


def answer(status: str, body: bytes = b"", **headers: object) -> Page:
    async def page(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(head(status, Content_Length=len(body), **headers) + body)

    return page


def redirect(status: int, target: str) -> Page:
    return answer(f"{status} Moved", Location=target, Set_Cookie="canary=cookie; Path=/")


def unsized(body: bytes) -> Page:
    """Return a page without a length, which ends with the connection."""

    async def page(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK") + body)

    return page


def dripping(body: bytes, gate: asyncio.Event | None = None) -> Page:
    """Return a page that is sent byte by byte, or stops before its end until the gate is open."""

    async def page(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK", Content_Length=len(body)))
        if gate is not None:
            writer.write(body[:-1])
            await gate.wait()
            writer.write(body[-1:])
            return
        for byte in body:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(DRIP_SECONDS)

    return page


@dataclass
class FlakyPage:
    """A page whose connection breaks after the given bytes of each answer in turn, then no more."""

    body: bytes
    cuts: list[int]
    ranges: bool = True
    etag: str | None = None
    modified: str | None = None
    changes_to: bytes | None = None  # the file from the second answer on
    lies: str = ""  # a Content-Range to say instead of the right one
    answers: int = 0

    async def __call__(self, asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        self.answers += 1
        if self.answers > 1 and self.changes_to is not None:
            self.body, self.changes_to = self.changes_to, None
        start = self._start(asked)
        rest = self.body[start:]
        writer.write(self._head(start) + (rest[: self.cuts[0]] if self.cuts else rest))
        await writer.drain()
        if self.cuts:
            self.cuts.pop(0)
            writer.transport.abort() if len(self.cuts) % 2 else writer.close()

    def _tag(self) -> str | None:
        return self.etag and f'"{hashlib.md5(self.body).hexdigest()}"'  # noqa: S324

    def _start(self, asked: ReceivedRequest) -> int:
        wanted = asked.headers.get("range")
        known = {self._tag(), self.modified} - {None}
        if not self.ranges or wanted is None or asked.headers.get("if-range") not in known:
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def _head(self, start: int) -> bytes:
        headers: dict[str, object] = {"Content_Length": len(self.body) - start}
        if self._tag():
            headers["ETag"] = self._tag()
        if self.modified:
            headers |= {"Last_Modified": self.modified, "Date": "Sat, 21 Nov 2026 05:28:00 GMT"}
        if not start:
            return head("200 OK", **headers)
        size = len(self.body)
        said = self.lies or f"bytes {start}-{size - 1}/{size}"
        return head("206 Partial Content", Content_Range=said, **headers)
