"""Network faults of a call, on every wire: the error, the billing state and the deadline.

The tests check the rows of the calls, because the ledger depends on them.

Covers: app.net.http.exchange
"""

import asyncio
import io
import shutil
import socket
import struct
import time
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.jobs.tables import upstream_call
from app.speech.engine import Billed, ErrorKind
from tests.support.gateway import Gateway, running, settings_for, speech
from tests.support.simulated_gateway import fast_catalogue
from tests.support.stub_server import (
    ReceivedRequest,
    Reply,
    answers,
    qwen3_answer,
    socket_server,
    upstream,
)

pytestmark = pytest.mark.anyio
FAMILIES = {
    "qwen3": "qwen3-asr-flash",
    "input-audio": "qwen-audio-3.0-asr-flash",
    "openai": "vllm/qwen3-asr-1.7b",
}
DEADLINE_SECONDS = 2.0
TOLERANCE_SECONDS = 0.5
LOOK_SECONDS, GLANCE_SECONDS = 30.0, 0.02
DRIP_SECONDS = 0.05
RATE, HISS = 16_000, 1_000
LONG_SECONDS = 200  # with a hiss: more than the sockets' buffers take

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n"
PAGE = b"<!doctype html><title>Bad Gateway</title>"

FarSide = Callable[[], AbstractAsyncContextManager[str]]


async def reset_before(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def reset_after(asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    await _said(writer, HEAD + b"{")
    await asyncio.sleep(DRIP_SECONDS)  # or the RST overtakes the bytes before it
    await reset_before(asked, writer)


async def early_end(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def cut_body(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    await _said(writer, HEAD + b'{"output": {"choices": [')
    writer.close()


async def garbage(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    await _said(writer, b"\x16\x03\x01 nothing like it\r\n\r\n")
    writer.close()


async def hang(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    await writer.wait_closed()


async def latency(asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(DEADLINE_SECONDS + 1)
    await answers(qwen3_answer())(asked, writer)


async def drip(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    await _said(writer, HEAD)
    while True:
        await _said(writer, b" ")
        await asyncio.sleep(DRIP_SECONDS)


async def _said(writer: asyncio.StreamWriter, words: bytes) -> None:
    writer.write(words)
    await writer.drain()


def after_the_request(reply: Reply) -> FarSide:
    """Return a server that reads requests completely and then does this."""

    @asynccontextmanager
    async def far_side() -> AsyncIterator[str]:
        async with upstream(reply) as there:
            yield there.url

    return far_side


@asynccontextmanager
async def refused() -> AsyncIterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def no_tls() -> AsyncIterator[str]:
    """Answer a TLS handshake with plain HTTP, like a wrongly configured proxy."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        await _said(writer, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with socket_server(plain) as url:
        yield url.replace("http:", "https:")


@asynccontextmanager
async def stuck() -> AsyncIterator[str]:
    """Accept connections, and read no more of a request than fits into the socket buffer."""

    async def take_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(LOOK_SECONDS)

    async with socket_server(take_nothing) as url:
        yield url


@dataclass(frozen=True)
class Case:
    """A fault, the expected row of the call, and whether the deadline ends the call."""

    far_side: FarSide
    kind: ErrorKind
    billed: Billed
    ends_late: bool = False
    is_long: bool = False


NETWORK, MALFORMED, TIMEOUT = ErrorKind.NETWORK, ErrorKind.MALFORMED, ErrorKind.TIMEOUT
NO, MAYBE = Billed.NO, Billed.MAYBE
HALF = b'{"output": {"choices": [{"mess'
CASES = {
    "refused": Case(refused, NETWORK, NO),
    "no TLS": Case(no_tls, NETWORK, NO),
    "request never taken": Case(stuck, TIMEOUT, NO, ends_late=True, is_long=True),
    "hang": Case(after_the_request(hang), TIMEOUT, MAYBE, ends_late=True),
    "latency": Case(after_the_request(latency), TIMEOUT, MAYBE, ends_late=True),
    "drip": Case(after_the_request(drip), TIMEOUT, MAYBE, ends_late=True),
    "reset before the first byte": Case(after_the_request(reset_before), NETWORK, MAYBE),
    "reset after the first byte": Case(after_the_request(reset_after), NETWORK, MAYBE),
    "early end": Case(after_the_request(early_end), NETWORK, MAYBE),
    "body cut short": Case(after_the_request(cut_body), NETWORK, MAYBE),
    "not HTTP": Case(after_the_request(garbage), NETWORK, MAYBE),
    "truncated JSON": Case(after_the_request(answers(HALF)), MALFORMED, MAYBE),
    "a page": Case(
        after_the_request(answers(PAGE, content_type="text/html")), MALFORMED, MAYBE
    ),
    "a proxy's 502": Case(
        after_the_request(answers(PAGE, "502 Bad Gateway", content_type="text/html")),
        ErrorKind.UNAVAILABLE,
        MAYBE,
    ),
}  # fmt: skip


@asynccontextmanager
async def gateway_before(url: str, folder: Path) -> AsyncIterator[Gateway]:
    """Run a gateway whose engines all call this server. It ends without waiting for jobs."""
    far = {"base_url": url, "api_key": "sk-test", "timeout_seconds": DEADLINE_SECONDS}
    settings = settings_for(
        f"sqlite:///{folder / 'gateway.db'}",
        folder / "data",
        speech={"default_model": "", "catalogue": str(fast_catalogue(folder))},
        dashscope=far,
        openai=far,
        server={"shutdown_seconds": 0},
    )
    async with running(settings, None) as gateway:
        yield gateway


async def first_call(gateway: Gateway, sound: bytes, model: str) -> dict[str, Any]:
    """Send a recording and return the row of its first call when it is closed."""
    response = await gateway.send(sound, model=model, wait=0)
    assert response.status_code == 202, response.text
    deadline = time.monotonic() + LOOK_SECONDS
    while time.monotonic() < deadline:
        mine = await gateway.rows(upstream_call, transcription_id=response.json()["id"])
        for row in mine:
            if row["attempt"] == 1 and row["closed_at"] is not None:
                return row
        await asyncio.sleep(GLANCE_SECONDS)
    raise AssertionError(f"{model}: no call was closed in {LOOK_SECONDS:.0f} s")


def hiss(seconds: int) -> bytes:
    """Return speech with noise, which compresses badly."""
    with wave.open(io.BytesIO(speech(8))) as spoken:
        voice = np.frombuffer(spoken.readframes(spoken.getnframes()), "<i2")
    louder = np.resize(voice, seconds * RATE).astype(np.int32)
    louder += np.random.default_rng(20261121).integers(-HISS, HISS, seconds * RATE)
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.clip(louder, -32_768, 32_767).astype("<i2").tobytes())
    return target.getvalue()


@pytest.mark.parametrize("name", CASES)
async def test_a_fault_means_the_same_on_every_wire(
    name: str, recording: bytes, migrated_sqlite: Path, tmp_path: Path
) -> None:
    case = CASES[name]
    shutil.copy(migrated_sqlite, tmp_path / "gateway.db")
    sound = hiss(LONG_SECONDS) if case.is_long else recording
    async with case.far_side() as url, gateway_before(url, tmp_path) as there:
        rows = await asyncio.gather(
            *(first_call(there, sound, model) for model in FAMILIES.values())
        )
    for family, row in zip(FAMILIES, rows, strict=True):
        told = row["state"], row["error_kind"], row["billed"]
        state = "in_doubt" if case.billed is MAYBE else "failed"
        assert told == (state, case.kind, case.billed), family
        took = (row["closed_at"] - row["opened_at"]).total_seconds()
        if case.ends_late:
            assert abs(took - DEADLINE_SECONDS) <= TOLERANCE_SECONDS, (family, took)
        else:
            assert took < DEADLINE_SECONDS - TOLERANCE_SECONDS, (family, took)
