"""Time and CPU time that the gateway adds to a stream, for its first event and each later one.

python -m bench.sse [--streams 20 100 200] [--events 40] [--gap 0.25]

The provider simulator sends a word every `gap` seconds and records when each word leaves; the
client records when it arrives. Each number of streams runs in three ways: directly to the
simulator, through a relay of bytes (`bench.relay`, the reference), and through a real `asr-gateway
serve`. The simulator and the client share this process, so their own load delays all three equally:
the difference is the gateway's.

The latency of an event is measured when all streams have begun. CPU time is that of the process in
between, from the kernel's schedstat: per event of the whole run, including jobs and uploads, and
per event while all streams were running, which excludes the jobs. Every stream must be complete:
all words in order, and then `completed`.
"""

import argparse
import asyncio
import base64
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median, quantiles

from tests.simulator import Ask, ProviderSimulator, answers
from tests.simulator.answers import Pace
from tests.support.gateway import speech
from tests.support.process import REPOSITORY, GatewayProcess
from tests.support.simulated_gateway import fast_catalogue

SERVE = ("-m", "app.cli.main", "serve")
ROUTE = "/api/v1/services/aigc/multimodal-generation/generation"
CALLS_A_MINUTE = 600_000  # slots of 0.1 ms: the account's rate limit is not measured
END = b"\r\n\r\n"
TAIL_BYTES = 32  # longer than any word, which chunks may cut
BOUNDARY = "bench"
GATEWAY_END, ENGINE_END = b"event: completed", b'"finish_reason":"stop"'
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
    parser.add_argument("--streams", type=int, nargs="+", default=[20, 100, 200])
    parser.add_argument("--events", type=int, default=40, help="words of each stream")
    parser.add_argument("--gap", type=float, default=0.25, help="seconds between them")
    return parser.parse_args()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, all its threads together."""
    stats = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(one.read_text().split()[0]) for one in stats) / 1e9


@dataclass
class Run:
    """One way with one number of streams; times are in milliseconds."""

    way: str
    streams: int
    cpu: Callable[[], float] = lambda: 0.0  # seconds used by the process between, where one is
    first: list[float] = field(default_factory=list)
    later: list[tuple[float, float]] = field(default_factory=list)  # when it left, how long it took
    all_began: float = 0.0
    cpu_seconds: float = 0.0
    steady_cpu_seconds: float = 0.0  # while all streams were running
    steady_events: int = 0
    _begun: int = 0
    _seen: int = 0
    _marks: list[tuple[float, int]] = field(default_factory=list)

    def note(self, *, is_first: bool, is_last: bool) -> None:
        """Record an event, and the CPU time when all streams have begun or the first has ended."""
        self._seen += 1
        self._begun += is_first
        if (self._begun == self.streams and is_first) or (is_last and len(self._marks) == 1):
            self._marks.append((self.cpu(), self._seen))
        if len(self._marks) == 2 and not self.steady_events:
            (cpu, seen), (cpu_then, seen_then) = self._marks
            self.steady_cpu_seconds, self.steady_events = cpu_then - cpu, seen_then - seen

    @property
    def events(self) -> list[float]:
        """Latencies of events after every stream had begun: starting a stream delays the others."""
        return [took for left, took in self.later if left > self.all_began]

    @property
    def cpu_per_event(self) -> float:
        """Microseconds of CPU time, including the jobs."""
        return self.cpu_seconds * 1e6 / max(1, len(self.first) + len(self.later))

    @property
    def steady_cpu_per_event(self) -> float:
        """Microseconds of CPU time while all streams were running."""
        return self.steady_cpu_seconds * 1e6 / max(1, self.steady_events)

    def line(self) -> str:
        words = f"{self.way:8} {self.streams:4} streams: first event {_spread(self.first)}; "
        words += f"per event {_spread(self.events)}"
        if self.cpu_seconds:
            words += f"; CPU per event {self.cpu_per_event:.0f} us, jobs included"
            words += f", {self.steady_cpu_per_event:.0f} us while all streams run"
        return words


def _spread(millis: list[float]) -> str:
    if len(millis) < 2:
        return f"{millis[0]:.2f} ms" if millis else "none"
    cuts = quantiles(millis, n=100)
    return f"p50 {cuts[49]:.2f}, p95 {cuts[94]:.2f} ms"


@dataclass
class Trial:
    """All runs, and the violations in them."""

    folder: Path
    streams: Sequence[int]
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
            async with ProviderSimulator(
                words=Ask(self._say), pace=Pace(part_seconds=self.gap)
            ) as simulator:
                gateway = self._gateway(simulator)
                with gateway.gone_at_the_end(), _relay(simulator) as (relay_url, relay_pid):
                    await asyncio.to_thread(gateway.start)
                    await self._through(gateway, 1)  # the slow first use is not measured
                    await self._directly(simulator, Run("relay", 1), relay_url)
                    self.runs.clear()
                    for streams in self.streams:
                        await self._directly(simulator, Run("direct", streams), simulator.url)
                        relayed = Run("relay", streams, lambda: cpu_seconds(relay_pid))
                        await self._directly(simulator, relayed, relay_url)
                        await self._through(gateway, streams)
                    self._check_end(await asyncio.to_thread(gateway.stop))

    def lines(self) -> Iterator[str]:
        for run in self.runs:
            yield run.line()
        for direct, relay, ours in zip(*(self.runs[n::3] for n in range(3)), strict=True):
            if not (direct.events and relay.events and ours.events):
                continue
            first, each = median(ours.first), median(ours.events)
            yield (
                f"ratios at {ours.streams} streams: "
                f"first event {first / median(direct.first):.1f}, "
                f"per event {each / median(direct.events):.2f} (direct = 1); "
                f"CPU per event {ours.cpu_per_event / relay.cpu_per_event:.1f}, while all run "
                f"{ours.steady_cpu_per_event / relay.steady_cpu_per_event:.1f} (relay = 1)"
            )

    def _gateway(self, simulator: ProviderSimulator) -> GatewayProcess:
        most = max(self.streams) + 10
        settings = {
            "SPEECH__CATALOGUE": str(fast_catalogue(self.folder, CALLS_A_MINUTE)),
            "SPEECH__DEFAULT_MODEL": "qwen3-asr-flash",
            "DASHSCOPE__API_KEY": simulator.key,
            "DASHSCOPE__BASE_URL": f"{simulator.url}/api/v1",
            "DASHSCOPE__MAX_CONCURRENT_CALLS": str(most),
            "JOBS__MAX_CONCURRENT_JOBS": str(most),
            "LOCAL__ENABLED": "false",
        }
        url = f"sqlite:///{self.folder / 'gateway.db'}"
        return GatewayProcess(self.folder, url, settings=settings, command=SERVE)

    def _say(self, *_: object) -> str:
        stream = next(self._numbers)
        return " ".join(f"s{stream}w{word}" for word in range(self.words))

    async def _directly(self, simulator: ProviderSimulator, run: Run, url: str) -> None:
        sound = base64.b64encode(self._sound).decode()
        message = {"role": "user", "content": [{"audio": f"data:audio/wav;base64,{sound}"}]}
        body = json.dumps(
            {
                "model": "qwen3-asr-flash",
                "input": {"messages": [message]},
                "parameters": {"incremental_output": True},
            }
        ).encode()
        head = f"Authorization: Bearer {simulator.key}\r\nX-DashScope-SSE: enable\r\n"
        request = _request(ROUTE, f"{head}Content-Type: application/json\r\n", body)
        await self._ask(run, url, request, ENGINE_END)

    async def _through(self, gateway: GatewayProcess, streams: int) -> None:
        mode = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="mode"\r\n\r\nstream\r\n'
        file = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"'
        body = f"{mode}{file}\r\n\r\n".encode() + self._sound + f"\r\n--{BOUNDARY}--\r\n".encode()
        head = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        request = _request("/v1/transcriptions", head, body)
        run = Run("gateway", streams, lambda: cpu_seconds(gateway.pid))
        await self._ask(run, gateway.url, request, GATEWAY_END)

    async def _ask(self, run: Run, url: str, request: bytes, end: bytes) -> None:
        before = run.cpu()
        await asyncio.gather(*(self._listen(run, url, request, end) for _ in range(run.streams)))
        run.cpu_seconds = run.cpu() - before
        self.runs.append(run)

    async def _listen(self, run: Run, url: str, request: bytes, end: bytes) -> None:
        """Read one stream and record the arrival of each word."""
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        began, came, tail, has_ended = time.perf_counter(), {}, b"", False
        writer.write(request)
        while chunk := await reader.read(1 << 16):
            now, seen = time.perf_counter(), tail + chunk
            for stream, word in _WORD.findall(seen):
                one = int(stream), int(word)
                if one not in came:
                    came[one] = now
                    run.note(is_first=len(came) == 1, is_last=len(came) == self.words)
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


@contextmanager
def _relay(simulator: ProviderSimulator) -> Iterator[tuple[str, int]]:
    """Run a relay to the simulator; yield its address and process id."""
    host, _, port = simulator.url.removeprefix("http://").partition(":")
    command = [sys.executable, "-m", "bench.relay", host, port]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}", process.pid
        finally:
            process.terminate()


class _stamping:  # noqa: N801 - reads as the context that it is
    """Record when each word leaves the simulator for the first time."""

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
