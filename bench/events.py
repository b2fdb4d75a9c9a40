"""CPU time of one event of a provider's stream: parsing alone, and through both HTTP clients.

python -m bench.events [--rounds 7] [--streams 20] [--events 200]

The provider is a process of its own that writes one event at a time, each in a chunk and a segment
of its own. Rounds take turns, and the median of the rounds counts.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from typing import Any

import uvloop

from app.net.client import open_client
from app.net.http.direct_client import DirectClient
from app.net.http.event_stream import EventStreamReader
from app.net.http.exchange import Body, HttpClient
from app.net.http.httpx_client import HttpxClient
from app.speech.engines.dashscope.sync_stream import Qwen3Stream
from app.speech.engines.http.wire_format import feeding

GAP_SECONDS = 0.002
LIMITS: dict[str, Any] = {
    "headers": {},
    "deadline_seconds": 60.0,
    "silence_seconds": 60.0,
    "max_bytes": 8 << 20,
}
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream;charset=UTF-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def event(number: int, last: int) -> bytes:
    """Return one event as DashScope writes it."""
    message = {
        "annotations": [{"language": "en", "type": "audio_info", "emotion": "neutral"}],
        "content": [{"text": f"word {number} "}],
        "role": "assistant",
    }
    reason = "stop" if number == last else "null"
    body = {
        "output": {"choices": [{"finish_reason": reason, "message": message}]},
        "usage": {"output_tokens_details": {"text_tokens": number}, "seconds": 10},
        "request_id": "568e2bf0-d6f2-97f8-9f15-a57b11dc6977",
    }
    data = json.dumps(body, ensure_ascii=False)
    return f"id:{number}\nevent:result\n:HTTP_STATUS/200\ndata:{data}\n\n".encode()


class Provider(asyncio.Protocol):
    """Answers each request with a stream of so many events."""

    def __init__(self, events: int) -> None:
        self._chunks = [b"%x\r\n%s\r\n" % (len(one), one) for one in _events(events)]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        if not data.endswith(b"{}"):  # the head alone
            return
        self._task = asyncio.get_running_loop().create_task(self._answer())

    async def _answer(self) -> None:
        self._transport.write(HEAD)
        for chunk in self._chunks:
            self._transport.write(chunk)
            await asyncio.sleep(GAP_SECONDS)
        self._transport.write(b"0\r\n\r\n")


def _events(count: int) -> list[bytes]:
    return [event(number, count) for number in range(1, count + 1)]


def serve(pipe: Pipe, events: int) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Provider(events), "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


def take_all() -> Callable[[bytes], bool]:
    told: list[str] = []
    return feeding(EventStreamReader(), Qwen3Stream(told.append))


def parse(streams: int, events: int) -> float:
    """Return the CPU microseconds of one event, parsed alone."""
    chunks = _events(events)
    began = time.process_time()
    for _ in range(streams):
        take = take_all()
        for chunk in chunks:
            take(chunk)
    return (time.process_time() - began) / streams / events * 1e6


async def read(client: HttpClient, streams: int, events: int) -> float:
    """Return the CPU microseconds of one event of streams that are read at once."""
    body = Body(2, "application/json", lambda: (b"{}",))
    began = time.process_time()
    calls = (client.post_streamed("/", body, take_all(), **LIMITS) for _ in range(streams))
    answers = await asyncio.gather(*calls)
    assert all(answer.was_streamed for answer in answers)
    return (time.process_time() - began) / streams / events * 1e6


async def measure(url: str, rounds: int, streams: int, events: int) -> None:
    clients: dict[str, Callable[[], HttpClient]] = {
        "httpx": lambda: HttpxClient(open_client(base_url=url, proxies=False)),
        "ours": lambda: DirectClient(
            url, connect_seconds=5, silence_seconds=60, max_connections=100
        ),
    }
    found: dict[str, list[float]] = {"parsing": [], **{kind: [] for kind in clients}}
    for _ in range(rounds):
        found["parsing"].append(parse(streams, events))
        for kind, make in clients.items():
            client = make()
            found[kind].append(await read(client, streams, events))
            await client.close()
    print("CPU us an event")
    for kind, figures in found.items():
        print(f"{kind:12}{statistics.median(figures):8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--events", type=int, default=200)
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    spawn = multiprocessing.get_context("spawn")
    provider = spawn.Process(target=serve, args=(theirs, options.events))
    provider.start()
    try:
        url = f"http://127.0.0.1:{ours.recv()}"
        uvloop.run(measure(url, options.rounds, options.streams, options.events))
    finally:
        provider.terminate()
        provider.join()


if __name__ == "__main__":
    main()
