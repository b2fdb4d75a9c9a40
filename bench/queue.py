"""The queue alone: from put to begun, how many a second, and how long handing all back takes.

python -m bench.queue [--jobs 1000] [--held 500]

The ticks do nothing. One process puts and works; the entries of the rate are put in tens.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

from app.db.migrate import open_database
from app.jobs.worker.lane import Entry, Lane
from app.jobs.worker.queue import JobQueue
from app.kit.priority_semaphore import PrioritySemaphore
from tests.support.postgres import Databases, running_postgres

AT_ONCE = 32
HELD = timedelta(seconds=20)
TEN = 10
SINGLE = 200


class Ticks:
    """Records the start of each job. Jobs named `held` request to be called again."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}

    async def tick(self, job_id: str) -> timedelta | None:
        self.began[job_id] = time.perf_counter()
        return HELD if job_id.startswith("held") else None

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.began) < count:
                await asyncio.sleep(0.001)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--held", type=int, default=500)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gateway-queue-") as folder:
        url = f"sqlite:///{Path(folder) / 'gateway.db'}"
        asyncio.run(measure("in memory", url, asked.jobs, asked.held))
    with running_postgres() as server:
        asyncio.run(measure("PostgreSQL", Databases(server).empty(), asked.jobs, asked.held))
    return 0


async def measure(name: str, url: str, jobs: int, held: int) -> None:
    ticks = Ticks()
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(open_database(url))
        queue = JobQueue(db, [Lane("jobs", ticks.tick, PrioritySemaphore(AT_ONCE), held + AT_ONCE)])
        await queue.open(works=True)
        waits = await latencies(queue, ticks)
        rate = await put_in_tens(queue, ticks, jobs)
        for n in range(0, held, TEN):
            await queue.put([Entry("jobs", f"held{m}", 0) for m in range(n, n + TEN)])
        await ticks.until(SINGLE + jobs + held)
        began = time.perf_counter()
        await queue.close()
        closed = time.perf_counter() - began
    p50, p95 = statistics.median(waits), statistics.quantiles(waits, n=20)[-1]
    print(
        f"{name}: put to begun {p50 * 1000:.1f} ms, p95 {p95 * 1000:.1f}; {rate:,.0f} jobs/s; "
        f"{held} held handed back in {closed:.2f} s",
        flush=True,
    )


async def latencies(queue: JobQueue, ticks: Ticks) -> list[float]:
    found = []
    for n in range(SINGLE):
        began = time.perf_counter()
        await queue.put([Entry("jobs", f"single{n}", 0)])
        await ticks.until(n + 1)
        found.append(ticks.began[f"single{n}"] - began)
    return found


async def put_in_tens(queue: JobQueue, ticks: Ticks, jobs: int) -> float:
    began = time.perf_counter()
    for n in range(0, jobs, TEN):
        await queue.put([Entry("jobs", f"many{m}", 0) for m in range(n, n + TEN)])
    await ticks.until(SINGLE + jobs)
    return jobs / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
