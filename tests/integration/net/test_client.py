"""A download is complete, or an error whose message never contains the query of the URL.

Covers: app.net.client
"""

import asyncio

import pytest

from app.net.client import DownloadError, download, open_client
from tests.integration.net.loopback import Answer, redirect, send, serving

pytestmark = pytest.mark.anyio

QUERY = "?Signature=hush"


async def fetch(answer: Answer, *, deadline: float = 10.0, silence: float = 5.0) -> bytes:
    body = bytearray()

    async def sink(chunk: bytes) -> None:
        body.extend(chunk)

    async with (
        serving(answer) as base,
        open_client(silence_seconds=silence, follow_redirects=True) as client,
    ):
        await download(
            client, f"{base}/file{QUERY}", sink, max_bytes=100, deadline_seconds=deadline
        )
    return bytes(body)


async def test_the_body_is_written_and_redirects_are_followed() -> None:
    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/there":
            await send(writer, b"abc")
        else:
            await redirect(writer, "/there")

    assert await fetch(answer) == b"abc"


@pytest.mark.parametrize(
    ("body", "status", "claimed", "words"),
    [
        (b"", "404 Not Found", None, "127.0.0.1 answered 404"),
        (b"abc", "200 OK", 9, "cut off"),
        (b"x" * 101, "200 OK", None, "more than the expected 100 bytes"),
    ],
)
async def test_a_wrong_answer_is_an_error_with_its_reason(
    body: bytes, status: str, claimed: int | None, words: str
) -> None:
    async def answer(_path: str, writer: asyncio.StreamWriter) -> None:
        await send(writer, body, status=status, claimed=claimed)

    with pytest.raises(DownloadError, match=words) as caught:
        await fetch(answer)
    assert "hush" not in str(caught.value)


async def test_a_silent_server_is_an_error_at_the_silence_limit() -> None:
    async def answer(_path: str, writer: asyncio.StreamWriter) -> None:
        await send(writer, b"a", claimed=9)
        await asyncio.sleep(3)

    with pytest.raises(DownloadError, match="fell silent"):
        await fetch(answer, silence=0.1)


async def test_a_slow_server_is_an_error_at_the_deadline() -> None:
    async def answer(_path: str, writer: asyncio.StreamWriter) -> None:
        await send(writer, b"", claimed=90)
        for _ in range(90):
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.05)

    with pytest.raises(DownloadError, match="not finished after"):
        await fetch(answer, deadline=0.3)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x?sig=hush", "http://[bad", "ftp://x/?a=hush"])
async def test_an_unreachable_address_is_an_error_without_its_query(url: str) -> None:
    async def sink(_chunk: bytes) -> None:
        raise AssertionError

    async with open_client() as client:
        with pytest.raises(DownloadError) as caught:
            await download(client, url, sink, max_bytes=1, deadline_seconds=5)
    assert "hush" not in str(caught.value)


async def test_progress_is_reported_in_bytes_so_far() -> None:
    told: list[int] = []

    async def answer(_path: str, writer: asyncio.StreamWriter) -> None:
        await send(writer, b"abc")

    async def sink(_chunk: bytes) -> None:
        pass

    async with serving(answer) as base, open_client() as client:
        size = await download(
            client, base, sink, max_bytes=9, deadline_seconds=5, on_progress=told.append
        )
    assert (size, told) == (3, [3])
