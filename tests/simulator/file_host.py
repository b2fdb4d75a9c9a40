"""A file server on loopback that stands for a third party's host, with the files of tasks."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Self

Answer = bytes | int | tuple[int, Mapping[str, str], bytes]


class FileHost:
    """Serves files by path: bytes, a bare status, or status, headers and body as they are."""

    def __init__(self, files: Mapping[str, Answer]) -> None:
        self.files = dict(files)
        self.asked: list[str] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split()[1].decode()
        self.asked.append(path)
        found = self.files.get(path.partition("?")[0], 404)
        if isinstance(found, bytes):
            found = 200, {}, found
        status, headers, body = (found, {}, b"") if isinstance(found, int) else found
        sent = {"content-length": str(len(body)), "connection": "close", **headers}
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in sent.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        writer.close()
