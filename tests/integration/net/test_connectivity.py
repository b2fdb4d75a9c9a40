"""The problems on the way to a host.

Covers: app.net.connectivity
"""

import asyncio

import pytest

from app.net.connectivity import (
    MAX_BYTES,
    ConnectivityError,
    ConnectivityProblem,
    is_proxied,
    try_request,
)
from tests.support.stub_server import answers, socket_server, upstream

pytestmark = pytest.mark.anyio


async def obstacle(url: str, deadline_seconds: float = 9) -> ConnectivityProblem:
    with pytest.raises(ConnectivityError) as caught:
        await try_request(url, "/x", headers={}, deadline_seconds=deadline_seconds)
    return caught.value.problem


async def test_any_answer_is_returned_with_the_start_of_its_body() -> None:
    async with upstream(answers(b"x" * (3 * MAX_BYTES), "503 No")) as there:
        answer = await try_request(there.url, "/x", headers={"a": "b"}, deadline_seconds=9)
        assert there.asked[0].headers["a"] == "b"
    assert (answer.status, len(answer.body)) == (503, MAX_BYTES)


async def test_each_problem_is_recognised() -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"SSH-2.0\r\n\r\n")
        await writer.drain()

    async with socket_server(silent) as url:
        assert await obstacle(url, 0.7) is ConnectivityProblem.SILENT
    assert await obstacle(url) is ConnectivityProblem.REJECTED
    async with socket_server(rude) as url:
        assert await obstacle(url) is ConnectivityProblem.BROKEN
        assert await obstacle(url.replace("http:", "https:")) is ConnectivityProblem.TLS
    # Longer than any label may be: no resolver has to be asked for it.
    assert await obstacle(f"http://{'x' * 70}.invalid") in {
        ConnectivityProblem.NAME,
        ConnectivityProblem.BROKEN,
    }


async def test_an_unreachable_proxy_is_the_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "near.example")
    assert await obstacle("http://far.example") is ConnectivityProblem.PROXY
    assert is_proxied("http://far.example")
    assert not is_proxied("http://near.example")
