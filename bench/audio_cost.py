"""CPU time and memory of the gateway for audio of several kinds, from upload to transcript.

python -m bench.audio_cost [--rounds 3] [--only NAME ...]

A real `asr-gateway serve` calls the fast upstream of bench/upstream.py. CPU time is that of the
gateway's process and, separately, of its decoder processes: it depends on the machine's clock rate,
but not on other load. Memory is resident memory; the peak is reset before each case. No two uploads
have the same bytes.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import uvloop

from bench.overhead import MARK, Body, Client, converted, form, mp3, port_of, running_upstream
from tests.support.process import REPOSITORY, GatewayProcess
from tests.support.simulated_gateway import fast_catalogue

MIB = 1 << 20
CALLS_A_MINUTE = 100_000_000
RESET_PEAK = "5"  # written to /proc/PID/clear_refs, forgets the peak of resident memory
SETTLE_SECONDS = 3.0  # between the last answer and the reading of the memory
STEREO_BYTES_PER_SECOND = 176_400


@dataclass(frozen=True)
class Case:
    """One case: `callers` clients send `requests` each per round, one after the other."""

    name: str
    make: Callable[[], bytes]
    form: str
    requests: int
    callers: int = 1


def stereo_mp3() -> bytes:
    """Return a stereo MP3 of ten seconds at 128 kbit/s. A tag in front of it contains the mark."""
    tag = mp3().partition(MARK)[0] + MARK
    options = ("-ar", "44100", "-ac", "2", "-b:a", "128k", "-map_metadata", "-1", "-f", "mp3")
    return tag + converted(10, *options)


def wav_of(seconds: float) -> Callable[[], bytes]:
    """Return a function that creates a WAV of 44.1 kHz stereo. Its last samples are the mark."""

    def make() -> bytes:
        sound = converted(seconds, "-ar", "44100", "-ac", "2", "-f", "s16le")
        shape = b"\x01\0\x02\0" + (44_100).to_bytes(4, "little")
        shape += STEREO_BYTES_PER_SECOND.to_bytes(4, "little") + b"\x04\0\x10\0"
        data = b"data" + len(sound).to_bytes(4, "little") + sound[: -len(MARK)] + MARK
        head = b"WAVEfmt \x10\0\0\0" + shape
        return b"RIFF" + (len(head) + len(data)).to_bytes(4, "little") + head + data

    return make


CASES = (
    Case("mono-mp3", mp3, "mp3", 20),
    Case("stereo-mp3", stereo_mp3, "mp3", 10),
    Case("wav-20mb", wav_of(113.4), "wav", 4),
    Case("wav-100mb", wav_of(567), "wav", 1),
    Case("wav-20mb-x32", wav_of(113.4), "wav", 1, callers=32),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=[case.name for case in CASES])
    asked = parser.parse_args()
    cases = [case for case in CASES if not asked.only or case.name in asked.only]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="audio-cost-")))
        upstream = stack.enter_context(running_upstream())
        return uvloop.run(measure(folder, upstream, cases, asked.rounds))


async def measure(folder: Path, upstream: int, cases: Sequence[Case], rounds: int) -> int:
    """Run each case in a gateway process of its own and print one line for it."""
    for case in cases:
        process, key = await asyncio.to_thread(start, folder / case.name, upstream)
        with process.gone_at_the_end():
            print(await run(case, process, key, rounds), flush=True)
            await asyncio.to_thread(process.stop)
    return 0


async def run(case: Case, process: GatewayProcess, key: str, rounds: int) -> str:
    body = form(await asyncio.to_thread(case.make), case.form, key)
    idle = resident(process.pid, "VmRSS")
    clients = [await Client.at(port_of(process)) for _ in range(case.callers)]
    if case.callers == 1:
        await clients[0].ask(body)  # imports, connections and the first speech model
    await asyncio.to_thread(Path(f"/proc/{process.pid}/clear_refs").write_text, RESET_PEAK)
    own, children = [], []
    for _ in range(rounds if case.callers == 1 else 1):
        before = cpu_ms(process.pid)
        await asyncio.gather(*(asks(client, body, case.requests) for client in clients))
        count = case.requests * case.callers
        used = cpu_ms(process.pid)
        own.append((used[0] - before[0]) / count)
        children.append((used[1] - before[1]) / count)
    peak = resident(process.pid, "VmHWM")
    await asyncio.sleep(SETTLE_SECONDS)
    after = resident(process.pid, "VmRSS")
    for client in clients:
        client.close()
    return (
        f"{case.name}: {median(own):.1f} ms own + {median(children):.1f} children = "
        f"{median(own) + median(children):.1f} ms of CPU a request; memory idle {idle:.0f} MiB, "
        f"peak {peak:.0f} ({peak - idle:+.0f}), after {after:.0f}"
    )


async def asks(client: Client, body: Body, count: int) -> None:
    for _ in range(count):
        await client.ask(body)


def cpu_ms(pid: int) -> tuple[float, float]:
    """Return the CPU time of a process and of its children that have ended."""
    own = time.clock_gettime_ns((~pid << 3) | 2) / 1e6  # the kernel's clock of that process
    times = psutil.Process(pid).cpu_times()
    return own, (times.children_user + times.children_system) * 1000


def resident(pid: int, name: str) -> float:
    """Return a figure of /proc/PID/status in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / MIB for line in lines if line.startswith(f"{name}:"))


def start(folder: Path, upstream: int) -> tuple[GatewayProcess, str]:
    """Start a gateway and create a key for it."""
    folder.mkdir()
    settings = {
        "SPEECH__CATALOGUE": str(fast_catalogue(folder, CALLS_A_MINUTE)),
        "SPEECH__DEFAULT_MODEL": "qwen3-asr-flash",
        "DASHSCOPE__API_KEY": "sk-audio-cost",
        "DASHSCOPE__BASE_URL": f"http://127.0.0.1:{upstream}/api/v1",
        "LOCAL__ENABLED": "false",
    }
    command = ("-m", "app.cli.main", "serve")
    database = f"sqlite:///{folder / 'gateway.db'}"
    process = GatewayProcess(folder, database, settings=settings, command=command)
    made = subprocess.run(
        [sys.executable, "-m", "app.cli.main", "keys", "create", "audio-cost", "--json"],
        env=process.environment(),
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )
    process.start()
    return process, json.loads(made.stdout)["key"]


if __name__ == "__main__":
    sys.exit(main())
