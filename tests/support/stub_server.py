"""A stub of DashScope on loopback: it sends the replies of a test and records the requests.

The exact model of the provider is the simulator. This stub is for faults in single bytes.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

Reply = Callable[["ReceivedRequest", asyncio.StreamWriter], Awaitable[None]]

ACCEPTING_TURNS = 5  # of the loop, from an accepted connection to the first step of its handler
Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class ReceivedRequest:
    """One received request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value

    @property
    def sound(self) -> bytes:
        """The content of the data: URI in the request."""
        uri = self.body.partition(b'"data:')[2].partition(b'"')[0]
        return base64.b64decode(uri.partition(b",")[2], validate=True)


@dataclass
class Upstream:
    """The stub: its URL, its requests and its replies."""

    url: str = ""
    asked: list[ReceivedRequest] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)


def qwen3_answer(
    text: str = "欢迎使用阿里云。", seconds: float = 2, **choice: Any
) -> dict[str, Any]:
    """Return an answer in the documented qwen3 format."""
    return {
        "output": {
            "choices": [
                {
                    "finish_reason": "stop",
                    "message": {
                        "annotations": [
                            {"language": "zh", "type": "audio_info", "emotion": "neutral"}
                        ],
                        "content": [{"text": text}],
                        "role": "assistant",
                    },
                    **choice,
                }
            ]
        },
        "usage": {
            "input_tokens_details": {"text_tokens": 0},
            "output_tokens_details": {"text_tokens": 6},
            "seconds": seconds,
        },
        "request_id": "568e2bf0-d6f2-97f8-9f15-a57b11dc6977",
    }


def answers(body: Any, status: str = "200 OK", **headers: str) -> Reply:
    """Return a complete and correct reply."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def reply(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        named = {"content-type": "application/json;charset=UTF-8", **headers}
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())
        head = f"HTTP/1.1 {status}\r\n{lines}Content-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        await writer.drain()

    return reply


def refuses(code: str, status: str = "400 Bad Request", **headers: str) -> Reply:
    """Return an error in the native format."""
    return answers({"code": code, "message": "canary", "request_id": "r"}, status, **headers)


@asynccontextmanager
async def upstream(*replies: Reply) -> AsyncIterator[Upstream]:
    """Serve the replies, one per request; the last one is repeated."""
    here = Upstream(replies=list(replies))

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (asked := await _read(reader)) is not None:
            here.asked.append(asked)
            reply = here.replies.pop(0) if len(here.replies) > 1 else here.replies[0]
            await reply(asked, writer)
            if writer.is_closing():
                return

    async with socket_server(handle) as here.url:
        yield here


@asynccontextmanager
async def socket_server(handle: Handle) -> AsyncIterator[str]:
    """Serve each connection with `handle`. The end of the block closes all of them."""
    running: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running[task] = writer
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handle(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 24)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for _ in range(ACCEPTING_TURNS):
            await asyncio.sleep(0)
        for task, writer in running.items():
            task.cancel()
            writer.transport.abort()  # unread bytes would keep it open
        await asyncio.gather(*running, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> ReceivedRequest | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return ReceivedRequest(head[0].split()[1], headers, body)
