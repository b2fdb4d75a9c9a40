"""An answer in the form of its wire, and its delivery, complete or with a fault."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace

from starlette.types import Scope, Send

from tests.simulator.faults import How

TRANSPORT = "simulator.transport"
PAGE = b"<!doctype html><title>Sign in</title><p>Please sign in to this network to go on."
DRIPS = 20
ARRIVES_SECONDS = 0.05  # for bytes to reach a reader before the connection is reset behind them


@dataclass(frozen=True)
class Answer:
    """Status, headers and the parts of a body. A stream sends its parts one by one.

    `error_event` is the event with which the stream would fail.
    """

    status: int
    media_type: str
    parts: list[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)
    is_stream: bool = False
    error_event: bytes = b""

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)


@dataclass(frozen=True)
class Pace:
    """Delays of the simulator, in real seconds."""

    drip_seconds: float = 0.1
    part_seconds: float = 0.0


async def deliver(answer: Answer, how: How, scope: Scope, send: Send, pace: Pace) -> bool:
    """Send the answer with the fault. Return whether a connected client received all of it."""
    if how == "lost":
        await _hang_up(scope)
        return False
    if how == "page":
        answer = Answer(200, "text/html", [PAGE])
    if how == "mislabelled":
        answer = replace(answer, media_type="text/plain;charset=UTF-8")
    if how == "event" and answer.is_stream:
        answer = replace(
            answer, parts=[*answer.parts[: len(answer.parts) // 2], answer.error_event]
        )
    if how == "twice":
        answer = replace(answer, parts=[part for part in answer.parts for _ in range(2)])
    if how == "halved":
        answer = replace(answer, parts=[answer.body[: len(answer.body) // 2]])
    await send(_head(answer))
    if how in {"cut", "torn"}:
        await _part(answer.body[: len(answer.body) // 2], send)
        await (reset(scope) if how == "torn" else _hang_up(scope))
        return False
    async for part in _parts(answer, how, pace):
        if _is_gone(scope):
            return False
        await _part(part, send)
    await send({"type": "http.response.body", "body": b""})
    return how not in {"halved", "page", "event"} and not _is_gone(scope)


def _head(answer: Answer) -> dict[str, object]:
    headers = {**answer.headers, "content-type": answer.media_type}
    if not answer.is_stream:
        headers["content-length"] = str(len(answer.body))
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": answer.status, "headers": raw}


async def _parts(answer: Answer, how: How, pace: Pace) -> AsyncIterator[bytes]:
    parts = _drops(answer.body) if how == "drip" else answer.parts
    for at, part in enumerate(parts):
        if at:
            await asyncio.sleep(pace.drip_seconds if how == "drip" else pace.part_seconds)
        yield part


def _drops(body: bytes) -> Iterable[bytes]:
    size = max(1, -(-len(body) // DRIPS))
    return (body[at : at + size] for at in range(0, len(body), size))


async def _part(body: bytes, send: Send) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


def _is_gone(scope: Scope) -> bool:
    transport: asyncio.Transport = scope[TRANSPORT]
    return transport.is_closing()


async def _hang_up(scope: Scope) -> None:
    """Close the connection in an orderly way: all bytes sent before arrive."""
    scope[TRANSPORT].close()
    await asyncio.sleep(ARRIVES_SECONDS)


async def reset(scope: Scope) -> None:
    """Reset the connection (RST)."""
    await asyncio.sleep(ARRIVES_SECONDS)
    transport: asyncio.Transport = scope[TRANSPORT]
    wire: socket.socket | None = transport.get_extra_info("socket")
    if wire is not None:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await asyncio.sleep(ARRIVES_SECONDS)
