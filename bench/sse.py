"""What the gateway adds to a stream: to its first event, and to each event after it.

python -m bench.sse [--streams 200] [--events 40] [--gap 0.25]

A real `asr-gateway serve` and a client stand before the twin, which says a word every `gap`
seconds and stamps each as it leaves; the client stamps it as it comes. In turns, one stream and
many at once, straight to the twin and through the gateway. The twin and the client share this
process, so their own load delays both alike: the difference is the gateway's. An event's time is
taken once all streams have begun. Every stream must be whole: all words in order, and then
`completed`.
"""

import argparse
import asyncio
import base64
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median, quantiles

import psutil

from tests.support.gateway import speech
from tests.support.process import GatewayProcess
from tests.support.twin import hastened
from tests.twin import Ask, Twin, answers
from tests.twin.answers import Pace

SERVE = ("-m", "app.cli.main", "serve")
ROUTE = "/api/v1/services/aigc/multimodal-generation/generation"
CALLS_A_MINUTE = 600_000  # steps of 0.1 ms: the account's pace is not what is measured
END = b"\r\n\r\n"
TAIL_BYTES = 32  # longer than any word, which chunks may cut
BOUNDARY = "bench"
_WORD = re.compile(rb"s(\d+)w(\d+)")


def main() -> int:
    asked = arguments()
    with tempfile.TemporaryDirectory(prefix="gateway-sse-") as folder:
        trial = Trial(Path(folder), asked.streams, asked.events, asked.gap)
        asyncio.run(trial.run())
    for line in trial.lines():
        print(line, flush=True)
    for violation in trial.violations[:20]:
        print(f"VIOLATION {violation}")
    return 1 if trial.violations else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--events", type=int, default=40, help="words of each stream")
    parser.add_argument("--gap", type=float, default=0.25, help="seconds between them")
    return parser.parse_args()


@dataclass
class Run:
    """One way with so many streams at once; times are in milliseconds."""

    way: str
    streams: int
    first: list[float] = field(default_factory=list)
    later: list[tuple[float, float]] = field(default_factory=list)  # when it left, how long it took
    all_began: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def events(self) -> list[float]:
        """Those that left once every stream had begun: to begin is work that delays the others."""
        return [took for left, took in self.later if left > self.all_began]

    def line(self) -> str:
        words = f"{self.way:8} {self.streams:4} streams: first event {_spread(self.first)}; "
        words += f"per event {_spread(self.events)}"
        if self.cpu_seconds and self.events:
            each = self.cpu_seconds * 1e6 / len(self.later)
            words += f"; {each:.0f} us of the gateway's CPU an event, whole jobs included"
        return words


def _spread(millis: list[float]) -> str:
    if len(millis) < 2:
        return f"{millis[0]:.2f} ms" if millis else "none"
    cuts = quantiles(millis, n=100)
    return f"p50 {cuts[49]:.2f}, p95 {cuts[94]:.2f} ms"


@dataclass
class Trial:
    """All runs, and what was broken in them."""

    folder: Path
    streams: int
    words: int
    gap: float
    runs: list[Run] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._numbers = count(1)
        self._left: dict[tuple[int, int], float] = {}
        self._sound = speech(2)

    async def run(self) -> None:
        with _stamping(self._left):
            async with Twin(words=Ask(self._say), pace=Pace(part_seconds=self.gap)) as twin:
                gateway = self._gateway(twin)
                with gateway.gone_at_the_end():
                    await asyncio.to_thread(gateway.start)
                    await self._through(gateway, 1)  # what is slow once is not measured
                    self.runs.clear()
                    for streams in (1, self.streams):
                        await self._directly(twin, streams)
                        await self._through(gateway, streams)
                    self._check_end(await asyncio.to_thread(gateway.stop))

    def lines(self) -> Iterator[str]:
        for run in self.runs:
            yield run.line()
        for direct, ours in zip(self.runs[::2], self.runs[1::2], strict=True):
            if not (direct.events and ours.events):
                continue
            first = median(ours.first) - median(direct.first)
            each = median(ours.events) - median(direct.events)
            yield f"added at {ours.streams} streams: {first:.1f} ms to the first event, {each:.2f} ms to each (medians)"  # noqa: E501

    def _gateway(self, twin: Twin) -> GatewayProcess:
        settings = {
            "SPEECH__CATALOGUE": str(hastened(self.folder, CALLS_A_MINUTE)),
            "SPEECH__DEFAULT_MODEL": "qwen3-asr-flash",
            "DASHSCOPE__API_KEY": twin.key,
            "DASHSCOPE__BASE_URL": f"{twin.url}/api/v1",
            "DASHSCOPE__MAX_CONCURRENT_CALLS": str(self.streams + 10),
            "JOBS__MAX_CONCURRENT_JOBS": str(self.streams + 10),
            "LOCAL__ENABLED": "false",
        }
        url = f"sqlite:///{self.folder / 'gateway.db'}"
        return GatewayProcess(self.folder, url, settings=settings, command=SERVE)

    def _say(self, *_: object) -> str:
        stream = next(self._numbers)
        return " ".join(f"s{stream}w{word}" for word in range(self.words))

    async def _directly(self, twin: Twin, streams: int) -> None:
        sound = base64.b64encode(self._sound).decode()
        message = {"role": "user", "content": [{"audio": f"data:audio/wav;base64,{sound}"}]}
        body = json.dumps(
            {
                "model": "qwen3-asr-flash",
                "input": {"messages": [message]},
                "parameters": {"incremental_output": True},
            }
        ).encode()
        head = f"Authorization: Bearer {twin.key}\r\nX-DashScope-SSE: enable\r\n"
        request = _request(ROUTE, f"{head}Content-Type: application/json\r\n", body)
        await self._ask(Run("direct", streams), twin.url, request, b'"finish_reason":"stop"')

    async def _through(self, gateway: GatewayProcess, streams: int) -> None:
        mode = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="mode"\r\n\r\nstream\r\n'
        file = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"'
        body = f"{mode}{file}\r\n\r\n".encode() + self._sound + f"\r\n--{BOUNDARY}--\r\n".encode()
        head = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        request = _request("/v1/transcriptions", head, body)
        run, process = Run("gateway", streams), psutil.Process(gateway.pid)
        before = sum(process.cpu_times()[:2])
        await self._ask(run, gateway.url, request, b"event: completed")
        run.cpu_seconds = sum(process.cpu_times()[:2]) - before

    async def _ask(self, run: Run, url: str, request: bytes, end: bytes) -> None:
        await asyncio.gather(*(self._listen(run, url, request, end) for _ in range(run.streams)))
        self.runs.append(run)

    async def _listen(self, run: Run, url: str, request: bytes, end: bytes) -> None:
        """Read one stream; the first time that a word is seen is when it came."""
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        began, came, tail, has_ended = time.perf_counter(), {}, b"", False
        writer.write(request)
        while chunk := await reader.read(1 << 16):
            now, seen = time.perf_counter(), tail + chunk
            for stream, word in _WORD.findall(seen):
                came.setdefault((int(stream), int(word)), now)
            tail, has_ended = seen[-TAIL_BYTES:], has_ended or end in seen
        writer.close()
        words = [word for _, word in came]
        if words != list(range(self.words)) or len({s for s, _ in came}) != 1 or not has_ended:
            self.violations.append(f"{run.way}: {len(came)} words, ended: {has_ended}")
            return
        first, *others = came
        run.first.append((came[first] - began) * 1000)
        run.all_began = max(run.all_began, came[first])
        run.later += [(left := self._left[one], (came[one] - left) * 1000) for one in others]

    def _check_end(self, code: int) -> None:
        if code:
            self.violations.append(f"the gateway ended with {code}")


class _stamping:  # noqa: N801 - reads as the context that it is
    """Note when each word leaves the twin for the first time."""

    def __init__(self, left: dict[tuple[int, int], float]) -> None:
        self._left, self._part = left, answers._part

    def __enter__(self) -> None:
        async def stamped(body: bytes, send: answers.Send) -> None:
            for stream, word in _WORD.findall(body):
                self._left.setdefault((int(stream), int(word)), time.perf_counter())
            await self._part(body, send)

        answers._part = stamped

    def __exit__(self, *_: object) -> None:
        answers._part = self._part


def _request(path: str, head: str, body: bytes) -> bytes:
    lines = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{head}"
    return f"{lines}Content-Length: {len(body)}{END.decode()}".encode() + body


if __name__ == "__main__":
    sys.exit(main())
