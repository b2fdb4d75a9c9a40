"""Time that the gateway adds to a direct call, and the share of each step of a request.

python -m bench.overhead [--seconds 5] [--rounds 3] [--database sqlite|postgres]

A client sends audio through a real `asr-gateway serve` with a key, and the same audio as a data:
URI directly to the same fast upstream (bench/upstream.py), in alternating rounds. The direct bodies
are prepared in advance, so their preparation does not count in the gateway's favour. No two uploads
have the same bytes. The gateway's settings are the defaults, except for the account's rate limit.
"""

import argparse
import asyncio
import base64
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import cast

import imageio_ffmpeg
import psutil
import uvloop

from bench.stops import ORDER
from tests.support.gateway import SPEECH
from tests.support.postgres import database_of
from tests.support.process import REPOSITORY, GatewayProcess
from tests.support.simulated_gateway import fast_catalogue

CALLS_A_MINUTE = 100_000_000
ROUTE = "/api/v1/services/aigc/multimodal-generation/generation"
END = b"\r\n\r\n"
MARK = b"0000000000000000"  # in every recording, replaced by a number of its own
BOUNDARY = "----overheadboundary7MA4YWxk"
WAV_SECONDS = 113.4  # of 44.1 kHz stereo: 20 MB
WARM_UP = 3
LEAST_ANSWERS = 2
SERVE = ("-m", "app.cli.main", "serve")

Body = tuple[bytes, bytes]  # before and after the number of a request


def main() -> int:
    asked = arguments()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-overhead-")))
        database = stack.enter_context(database_of(asked.database, folder))
        upstream = stack.enter_context(running_upstream())
        bench = Bench(folder, database, upstream, asked.seconds, asked.rounds)
        return uvloop.run(bench.run())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="duration of each side per round"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    return parser.parse_args()


@contextmanager
def running_upstream() -> Iterator[int]:
    """Run the fast upstream in a process of its own and yield its port."""
    command = [sys.executable, "-m", "bench.upstream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["port"]
        finally:
            process.kill()


@dataclass
class Measured:
    """The answers of one side: the duration of each, and the total time."""

    took: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def ms(self) -> float:
        return median(self.took) * 1000

    @property
    def p95_ms(self) -> float:
        return quantiles(self.took, n=20)[-1] * 1000

    @property
    def a_second(self) -> float:
        return len(self.took) / self.seconds

    @property
    def cpu_ms(self) -> float:
        return self.cpu_seconds / len(self.took) * 1000


@dataclass(frozen=True)
class Case:
    name: str
    recording: str
    callers: int


CASES = (
    Case("10 s mp3, 1 caller", "mp3", 1),
    Case("10 s mp3, 32 callers", "mp3", 32),
    Case("20 MB wav, 1 caller", "wav", 1),
)


@dataclass
class Bench:
    folder: Path
    database_url: str
    upstream: int
    seconds: float
    rounds: int
    answered: int = 0

    async def run(self) -> int:
        """Measure everything, print it, and tell whether each answer was one upstream call."""
        sounds = {"mp3": mp3(), "wav": wav()}
        print("  ".join(f"{name} {len(sound):,} bytes" for name, sound in sounds.items()))
        direct = {name: straight(sound, name, self.upstream) for name, sound in sounds.items()}
        process, key = await asyncio.to_thread(self._gateway, SERVE)
        with process.gone_at_the_end():
            forms = {name: form(sound, name, key) for name, sound in sounds.items()}
            for case in CASES:
                bodies = direct[case.recording], forms[case.recording]
                print(line(case, *await self._sides(case, process, *bodies)), flush=True)
            process.stop()
        await self._stops(sounds)
        calls = await counted(self.upstream)
        print(f"{calls} upstream calls, {self.answered} answers")
        return 0 if calls == self.answered else 1

    async def _sides(
        self, case: Case, process: GatewayProcess, direct: Body, uploaded: Body
    ) -> tuple[Measured, Measured]:
        ours, theirs = Measured(), Measured()
        port = port_of(process)
        for _ in range(self.rounds):
            await self._load(self.upstream, direct, case.callers, theirs)
            before = cpu_seconds(process.pid)
            await self._load(port, uploaded, case.callers, ours)
            ours.cpu_seconds += cpu_seconds(process.pid) - before
        return theirs, ours

    async def _load(self, port: int, body: Body, callers: int, into: Measured) -> None:
        """Run callers that send a request as soon as they have the answer to the last one."""
        clients = [await Client.at(port) for _ in range(callers)]
        for client in clients[:WARM_UP]:
            await client.ask(body)
        began = time.perf_counter()
        until = began + self.seconds

        async def caller(client: Client) -> None:
            while time.perf_counter() < until or len(into.took) < LEAST_ANSWERS:
                start = time.perf_counter()
                await client.ask(body)
                into.took.append(time.perf_counter() - start)

        before = len(into.took)
        await asyncio.gather(*map(caller, clients))
        into.seconds += time.perf_counter() - began
        self.answered += len(into.took) - before + len(clients[:WARM_UP])
        for client in clients:
            client.close()

    async def _stops(self, sounds: dict[str, bytes]) -> None:
        """Print the share of each step, measured by bench/stops.py."""
        for name, sound in sounds.items():
            file = self.folder / f"stops-{name}.jsonl"
            command = ("-m", "bench.stops", str(file))
            process, key = await asyncio.to_thread(self._gateway, command)
            with process.gone_at_the_end():
                measured = Measured()
                await self._load(port_of(process), form(sound, name, key), 1, measured)
                process.stop()
            lines = [json.loads(one) for one in file.read_text().splitlines()][1:]
            print(f"\n{name}, 1 caller, {measured.ms:.2f} ms at the client, of them:")
            print("\n".join(shares(lines, measured.ms)), flush=True)

    def _gateway(self, command: tuple[str, ...]) -> tuple[GatewayProcess, str]:
        """Start a gateway and create a key for it."""
        settings = {
            "SPEECH__CATALOGUE": str(fast_catalogue(self.folder, CALLS_A_MINUTE)),
            "SPEECH__DEFAULT_MODEL": "qwen3-asr-flash",
            "DASHSCOPE__API_KEY": "sk-overhead",
            "DASHSCOPE__BASE_URL": f"http://127.0.0.1:{self.upstream}/api/v1",
            "LOCAL__ENABLED": "false",
        }
        process = GatewayProcess(self.folder, self.database_url, settings=settings, command=command)
        process.folder.mkdir(exist_ok=True)
        made = subprocess.run(
            [sys.executable, "-m", "app.cli.main", "keys", "create", "overhead", "--json"],
            env=process.environment(),
            cwd=REPOSITORY,
            capture_output=True,
            check=True,
        )
        process.start()
        return process, json.loads(made.stdout)["key"]


class Client(asyncio.Protocol):
    """One HTTP connection with the subset of HTTP that this bench needs."""

    _numbers = count(1)

    @classmethod
    async def at(cls, port: int) -> "Client":
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(cls, "127.0.0.1", port)
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._buffer = bytearray()
        self._answer: asyncio.Future[bytes] | None = None

    def data_received(self, data: bytes) -> None:
        """Collect an answer until it is complete."""
        self._buffer += data
        head, end, body = bytes(self._buffer).partition(END)
        if end and len(body) >= length_of(head):
            self._buffer.clear()
            assert self._answer is not None
            self._answer.set_result(head + END + body)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the request that waits for an answer."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionError("hung up"))

    async def ask(self, body: Body) -> bytes:
        """Send a request with a new mark and return the answer, which must be a 200."""
        self._answer = asyncio.get_running_loop().create_future()
        before, after = body
        self._transport.writelines([before, b"%016d" % next(self._numbers), after])
        answer = await self._answer
        assert answer.startswith(b"HTTP/1.1 200"), answer[:2000]
        return answer

    def close(self) -> None:
        self._transport.close()


async def counted(port: int) -> int:
    """Return the number of calls that the upstream answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /calls HTTP/1.1" + END)
    head = await reader.readuntil(END)
    body = await reader.readexactly(length_of(head))
    writer.close()
    return int(json.loads(body)["calls"])


def length_of(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next(int(value) for name, _, value in lines if name == b"content-length")


def port_of(process: GatewayProcess) -> int:
    return int(process.url.rpartition(":")[2])


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of its children that have ended."""
    times = psutil.Process(pid).cpu_times()
    return sum((times.user, times.system, times.children_user, times.children_system))


def mp3() -> bytes:
    """Return an MP3 of ten seconds at 128 kbit/s. A tag in front of it contains the mark."""
    frame = b"\0n\0" + MARK
    text = b"TXXX" + len(frame).to_bytes(4, "big") + bytes(2) + frame
    sound = converted(10, "-ar", "44100", "-b:a", "128k", "-map_metadata", "-1", "-f", "mp3")
    return b"ID3\x03\0\0\0\0\0" + bytes([len(text)]) + text + sound


def wav() -> bytes:
    """Return a WAV of 20 MB, 44.1 kHz stereo. Its last samples are the mark."""
    sound = converted(WAV_SECONDS, "-ar", "44100", "-ac", "2", "-f", "s16le")
    form = b"\x01\0\x02\0" + (44_100).to_bytes(4, "little") + (176_400).to_bytes(4, "little")
    form += b"\x04\0\x10\0"
    data = b"data" + len(sound).to_bytes(4, "little") + sound[: -len(MARK)] + MARK
    head = b"WAVEfmt \x10\0\0\0" + form
    return b"RIFF" + (len(head) + len(data)).to_bytes(4, "little") + head + data


def converted(seconds: float, *options: str) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-stream_loop", "-1"]
    command += ["-i", str(SPEECH), "-t", str(seconds)]
    return subprocess.run([*command, *options, "-"], capture_output=True, check=True).stdout


def straight(sound: bytes, name: str, port: int) -> Body:
    """Return a direct call of the upstream with the audio as a data: URI.

    The mark is a field beside the audio: inside the base64 it would change three more characters.
    """
    uri = f"data:audio/{name};base64,{base64.b64encode(sound).decode()}"
    asked = {
        "model": "qwen3-asr-flash",
        "input": {"messages": [{"role": "user", "content": [{"audio": uri}]}]},
        "parameters": {"result_format": "message", "asr_options": {}},
        "user": MARK.decode(),
    }
    return request(port, ROUTE, "application/json", "sk-overhead", json.dumps(asked).encode())


def form(sound: bytes, name: str, key: str) -> Body:
    """Return an upload as multipart/form-data."""
    disposition = f'Content-Disposition: form-data; name="file"; filename="a.{name}"'
    before = f"--{BOUNDARY}\r\n{disposition}\r\nContent-Type: audio/{name}\r\n\r\n".encode()
    body = before + sound + f"\r\n--{BOUNDARY}--\r\n".encode()
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    return request(0, "/v1/transcriptions", kind, key, body)


def request(port: int, route: str, kind: str, key: str, body: bytes) -> Body:
    head = (
        f"POST {route} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    before, _, after = (head.encode() + body).rpartition(MARK)
    return before, after


def line(case: Case, direct: Measured, ours: Measured) -> str:
    return (
        f"{case.name}: direct {direct.ms:.2f} ms (p95 {direct.p95_ms:.2f}), "
        f"{direct.a_second:,.0f}/s; gateway {ours.ms:.2f} ms (p95 {ours.p95_ms:.2f}), "
        f"{ours.a_second:,.1f}/s, {ours.cpu_ms:.1f} ms of CPU each; "
        f"added {ours.ms - direct.ms:.2f} ms, {ours.ms / direct.ms:.1f} times direct, "
        f"rate {ours.a_second / direct.a_second:.4f} of direct ({len(ours.took)} answers)"
    )


def shares(lines: Sequence[dict[str, float]], client_ms: float) -> Iterator[str]:
    """Yield the median of each step and its share of the client's waiting time."""
    known = {stop: median(one.get(stop, 0.0) for one in lines) * 1000 for stop in ORDER}
    rest = {**known, "wire, and between": client_ms - sum(known.values())}
    for stop, ms in rest.items():
        yield f"  {stop:22} {ms:8.2f} ms {ms / client_ms:6.1%}"


if __name__ == "__main__":
    sys.exit(main())
