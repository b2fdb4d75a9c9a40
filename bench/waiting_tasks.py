"""Memory, threads and polls of one process with thousands of waiting tasks.

python -m bench.waiting_tasks [--jobs 2000] [--seconds 30] [--to-the-end] [--postgres]

A simulator accepts the tasks and works on none of them until the end. It rejects more than 20 polls
a second. With `--to-the-end` it finishes them, and the bench waits until every job has its text.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.simulator import Delays, ProviderSimulator
from tests.simulator.counting import encode
from tests.simulator.limits import Limits
from tests.support.postgres import Databases, running_postgres
from tests.support.process import GatewayProcess
from tests.support.simulated_gateway import fast_catalogue

SERVE = ("-m", "app.cli.main", "serve")
MODEL = "qwen3-asr-flash-filetrans"
FAR = "https://far.example/a.wav"
HOURS = 3 * 3600.0
SUBMITS_A_MINUTE = 60_000  # at the account's 100, two thousand submits are twenty minutes
SENDERS = 16
MOST_MEBIBYTES = 143  # 150 MB
TOO_MANY = 429
BEGIN_SECONDS, END_SECONDS = 300.0, 900.0


@dataclass(frozen=True)
class ProcessFigures:
    """The figures of the process at one moment."""

    mebibytes: float
    threads: int
    cpu_seconds: float

    @classmethod
    def at(cls, pid: int) -> "ProcessFigures":
        said = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(times[11]) + int(times[12])
        return cls(int(said["VmRSS"].split()[0]) / 1024, int(said["Threads"]), ticks / 100)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--to-the-end", action="store_true")
    parser.add_argument("--postgres", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gateway-tasks-") as folder, database(asked) as url:
        return asyncio.run(run(asked, Path(folder), url))


@contextmanager
def database(asked: argparse.Namespace) -> Iterator[str]:
    if not asked.postgres:
        yield ""
        return
    with running_postgres() as server:
        yield Databases(server).migrated()


async def run(asked: argparse.Namespace, folder: Path, url: str) -> int:
    delays = Delays(pending=HOURS, running=0)
    limits = Limits(task_calls=True)
    async with ProviderSimulator(
        delays=delays, limits=limits, remote={FAR: encode([1])}
    ) as simulator:
        gateway = GatewayProcess(folder, url, settings=settings(simulator, folder), command=SERVE)
        with gateway.gone_at_the_end():
            await asyncio.to_thread(gateway.start)
            before = ProcessFigures.at(gateway.pid)
            began = time.monotonic()
            await submit_all(gateway, asked.jobs)
            async with asyncio.timeout(BEGIN_SECONDS):
                while len(simulator.tasks) < asked.jobs:
                    await asyncio.sleep(0.1)
            submitted = time.monotonic() - began
            bad = await measure(gateway, simulator, asked, before, submitted)
            if asked.to_the_end:
                bad |= await finish(gateway, simulator, asked.jobs)
            await asyncio.to_thread(gateway.stop)
    return int(bad)


def settings(simulator: ProviderSimulator, folder: Path) -> dict[str, str]:
    return {
        "SPEECH__CATALOGUE": str(fast_catalogue(folder, SUBMITS_A_MINUTE)),
        "SPEECH__DEFAULT_MODEL": MODEL,
        "DASHSCOPE__API_KEY": simulator.key,
        "DASHSCOPE__BASE_URL": simulator.url,
        "JOBS__MAX_SYNC_CALLERS": "10000",
        "LOCAL__ENABLED": "false",
        "LOG__LEVEL": "INFO",
    }


async def submit_all(gateway: GatewayProcess, jobs: int) -> None:
    left = iter(range(jobs))
    async with httpx.AsyncClient(base_url=gateway.url, timeout=120) as client:

        async def sender() -> None:
            for _ in left:
                sent = await client.post("/v1/transcriptions", json={"url": FAR, "wait": 0})
                assert sent.status_code == httpx.codes.ACCEPTED, sent.text

        await asyncio.gather(*(sender() for _ in range(SENDERS)))


async def measure(
    gateway: GatewayProcess,
    simulator: ProviderSimulator,
    asked: argparse.Namespace,
    before: ProcessFigures,
    submitted: float,
) -> bool:
    """Print the figures while all tasks wait. Return whether a limit is exceeded."""
    at_first, first = ProcessFigures.at(gateway.pid), len(polls(simulator))
    await asyncio.sleep(asked.seconds)
    after = ProcessFigures.at(gateway.pid)
    questions = len(polls(simulator)) - first
    refused = len([call for call in simulator.calls if call.status == TOO_MANY])
    cpu = (after.cpu_seconds - at_first.cpu_seconds) / asked.seconds
    print(
        f"{asked.jobs} jobs wait, submitted in {submitted:.1f} s\n"
        f"memory: {before.mebibytes:.0f} MiB before, {after.mebibytes:.0f} MiB after\n"
        f"threads: {before.threads} before, {after.threads} after\n"
        f"questions a second: {questions / asked.seconds:.1f} of 20, CPU {cpu:.0%}\n"
        f"429s: {refused}; tasks: {len(simulator.tasks)}",
        flush=True,
    )
    too_many = len(simulator.tasks) > asked.jobs
    return after.mebibytes > MOST_MEBIBYTES or refused > 0 or too_many


async def finish(gateway: GatewayProcess, simulator: ProviderSimulator, jobs: int) -> bool:
    """Let the simulator work and wait until every job has ended. Return whether one has no text."""
    began = time.monotonic()
    simulator.clock.advance(HOURS)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        async with asyncio.timeout(END_SECONDS):
            while await some(client, "queued") or await some(client, "processing"):
                await asyncio.sleep(1)
        failed = await some(client, "failed")
    refused = len([call for call in simulator.calls if call.status == TOO_MANY])
    print(
        f"all ended in {time.monotonic() - began:.0f} s, {len(simulator.bill)} billed, "
        f"429s: {refused}"
    )
    return failed or refused > 0 or len(simulator.bill) != jobs


async def some(client: httpx.AsyncClient, status: str) -> bool:
    found = await client.get("/v1/transcriptions", params={"status": status, "limit": 1})
    return bool(found.json()["items"])


def polls(simulator: ProviderSimulator) -> list[float]:
    return [call.at for call in simulator.calls if call.path.startswith("/api/v1/tasks/")]


if __name__ == "__main__":
    sys.exit(main())
