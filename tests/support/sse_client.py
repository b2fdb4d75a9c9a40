"""Clients of event streams over ASGI, where a test sees every byte, and helpers for events.

The reader follows the standard and shares no code with the gateway's.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.gateway import ADDRESS, Gateway, bearing

TIMEOUT_SECONDS = 20.0
ENDS = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True)
class SseEvent:
    """One event as a client receives it."""

    type: str
    data: Any
    id: str


def read_events(raw: bytes) -> tuple[list[SseEvent], str]:
    """Return the complete events at the start of a stream, and their last id."""
    text = raw.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    *blocks, _ = text.split("\n\n")
    heard, last = [], ""
    for block in blocks:
        kind, data, seen = "message", [], False
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                kind = value
            elif name == "data":
                data.append(value)
                seen = True
            elif name == "id":
                last = value
        if seen:
            heard.append(SseEvent(kind, json.loads("\n".join(data)), last))
    return heard, last


def text_of(events: Iterable[SseEvent]) -> str:
    """Join deltas as a client does: a reset voids those since the last segment."""
    firm, loose = "", ""
    for event in events:
        if event.type == "delta":
            loose += event.data["text"]
        elif event.type == "segment":
            firm, loose = firm + loose, ""
        elif event.type == "reset":
            loose = ""
    return firm + loose


def rows_of(events: Iterable[SseEvent]) -> list[SseEvent]:
    return [event for event in events if event.type != "delta"]


def types_of(events: Iterable[SseEvent]) -> list[str]:
    """Return the types in order, deltas in a row as one."""
    found: list[str] = []
    for event in events:
        if event.type != "delta" or found[-1:] != ["delta"]:
            found.append(event.type)
    return found


@dataclass
class Listener:
    """An answer that is being received."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytearray = field(default_factory=bytearray)
    is_over: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def events(self) -> list[SseEvent]:
        return read_events(bytes(self.raw))[0]

    @property
    def last_id(self) -> str:
        return read_events(bytes(self.raw))[1]

    async def until(self, condition: Any, seconds: float = TIMEOUT_SECONDS) -> None:
        """Wait until the condition is true of the events received so far."""
        async with asyncio.timeout(seconds):
            while not condition(self.events):
                self._news.clear()
                assert not self.is_over, self.raw.decode()
                await self._news.wait()

    async def end(self, seconds: float = TIMEOUT_SECONDS) -> list[SseEvent]:
        """Wait for the end and return all events."""
        async with asyncio.timeout(seconds):
            while not self.is_over:
                self._news.clear()
                await self._news.wait()
        return self.events

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {n.decode().lower(): v.decode() for n, v in message["headers"]}
        else:
            self.raw += message.get("body", b"")
            self.is_over = not message.get("more_body", False)
        self._news.set()


@asynccontextmanager
async def asked(gateway: Gateway, request: httpx.Request) -> AsyncIterator[Listener]:
    """Send a request and yield its answer as it arrives. The end of the block disconnects."""
    listener = Listener()
    left = asyncio.Event()
    body = [request.read()]

    async def receive() -> dict[str, Any]:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.url.path,
        "raw_path": request.url.raw_path,
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    task = asyncio.create_task(gateway.app(scope, receive, listener.send))  # type: ignore[arg-type]
    try:
        yield listener
    finally:
        left.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                await asyncio.wait({task})
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def sent(
    gateway: Gateway, recording: bytes, *, accept: str = "", **options: Any
) -> AsyncIterator[Listener]:
    """Post audio and receive the stream."""
    request = httpx.Request(
        "POST",
        f"{ADDRESS}/v1/transcriptions",
        files={"file": ("speech.wav", recording)},
        data=options,
        headers={"accept": accept} if accept else {},
    )
    async with asked(gateway, request) as listener:
        yield listener


@asynccontextmanager
async def followed(
    gateway: Gateway,
    job_id: str,
    *,
    last_id: str | None = None,
    key: str | None = None,
    **query: str,
) -> AsyncIterator[Listener]:
    """Receive a job's events, after an id if one is given."""
    headers = bearing(key) | ({} if last_id is None else {"last-event-id": last_id})
    path = f"{ADDRESS}/v1/transcriptions/{job_id}/events"
    async with asked(gateway, httpx.Request("GET", path, params=query, headers=headers)) as heard:
        yield heard
