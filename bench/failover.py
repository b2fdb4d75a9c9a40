"""The first of two provider accounts fails during a run and recovers: calls and bills of both.

python -m bench.failover [--jobs 120] [--seed N]

Jobs are sent evenly before, during and after the outage, in which every call receives 503. All jobs
must complete. The failed account receives the calls that open its circuit breaker, the calls in
flight at that time, and one probe after each pause. No key is sent to the other account's host. The
settled amount of each account equals its bill.
"""

import argparse
import asyncio
import logging
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from app.kit.log import log
from app.net.breaker import MIN_CALLS, OPEN_SECONDS
from tests.simulator import ProviderSimulator, Script
from tests.simulator.counting import encode
from tests.support.gateway import Gateway
from tests.support.job_records import WORD, JobRecords, snapshot
from tests.support.simulated_gateway import more_accounts, simulated_gateway

REGIONS = {"dashscope": "cn-beijing", "dashscope/intl": "ap-southeast-1"}
NANO = {"cn-beijing": 220_000, "ap-southeast-1": 260_000}
FIRST = "cn-beijing"
AT_ONCE = 16
LENGTHS = (1, 2, 3, 5)
JOB_SECONDS = 300.0
DOWN_SECONDS = 20.0  # of the outage at least: the first probe has failed by then


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=120)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    asked = parser.parse_args()
    log.threshold = logging.CRITICAL
    folder = Path(tempfile.mkdtemp(prefix="gateway-failover-"))
    run = asyncio.run(tried(asked.jobs, asked.seed, folder))
    print(f"seed {asked.seed}\n" + "\n".join(run.lines()), flush=True)
    violations = list(run.violations())
    print("\n".join(f"VIOLATION {one}" for one in violations) or "0 violations")
    shutil.rmtree(folder)
    return 1 if violations else 0


@dataclass
class Run:
    """Calls to each region in each stage; ledger and bills at the end."""

    simulator: ProviderSimulator
    records: JobRecords
    failover_used: int
    down_seconds: float
    stages: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def to_open(self) -> int:
        """Failures that open the circuit breaker: as many as calls that succeeded before."""
        return max(MIN_CALLS, self.stages["alive"][FIRST])

    @property
    def probes(self) -> int:
        """Calls to the failed account beyond those that opened its breaker."""
        return max(0, self.stages["down"][FIRST] - self.to_open)

    @property
    def settled(self) -> Counter[str]:
        made_on = {call["id"]: call["engine"] for call in self.records.rows["upstream_call"]}
        sums: Counter[str] = Counter()
        for line in self.records.rows["ledger_line"]:
            if line["kind"] == "settle":
                sums[REGIONS[made_on[line["call_id"]]]] += line["nano"]
        return sums

    @property
    def billed(self) -> Counter[str]:
        sums: Counter[str] = Counter()
        for line in self.simulator.bill:
            sums[line.charge.region] += line.seconds * NANO[line.charge.region]
        return sums

    def lines(self) -> Iterator[str]:
        yield f"jobs {dict(self.records.statuses)}, {self.failover_used} failed over"
        for stage, calls in self.stages.items():
            yield f"calls, first account {stage}: {dict(calls)}"
        yield (
            f"dead for {self.down_seconds:.0f} s: {self.stages['down'][FIRST]} calls to it, "
            f"{self.to_open} to open its breaker, {self.probes} under way by then or probes"
        )
        for region in REGIONS.values():
            yield f"{region}: billed {self.billed[region]} nano CNY, settled {self.settled[region]}"

    def violations(self) -> Iterator[str]:
        yield from self.records.violations()
        if self.records.statuses.keys() != {"completed"}:
            yield f"not all jobs were completed: {dict(self.records.failures)}"
        if self.settled != self.billed:
            yield "what is settled is not what is billed"
        allowed = AT_ONCE - 1 + int(self.down_seconds / OPEN_SECONDS)
        if self.probes > allowed:
            yield f"{self.probes} calls after the breaker opened, {allowed} allowed"
        for call in self.simulator.calls:
            if call.headers["authorization"] != f"Bearer {self.simulator.key_of(call.region)}":
                yield f"{call.region} was sent another's key"
        if not self.stages["back"][FIRST]:
            yield "the first account was not called again"


async def tried(jobs: int, seed: int, folder: Path) -> Run:
    random = Random(seed)
    simulator = ProviderSimulator(seed=seed, regions=tuple(REGIONS.values()), words=Script(WORD))
    stages: dict[str, Counter[str]] = {}
    bodies: list[dict[str, Any]] = []
    down_seconds = 0.0
    async with (
        simulator,
        simulated_gateway(
            simulator,
            folder,
            jobs={"max_concurrent_jobs": AT_ONCE},
            **more_accounts(simulator, intl="ap-southeast-1"),
        ) as gateway,
    ):
        for stage in ("alive", "down", "back"):
            seen, began = len(simulator.calls), time.monotonic()
            if stage == "down":
                simulator.faults.down(FIRST)
            if stage == "back":
                simulator.faults.up(FIRST)
                await until(gateway, random, bodies, partial(was_asked, simulator, seen))
            bodies += await sent(gateway, random, jobs // 3)
            if stage == "down":
                await until(gateway, random, bodies, partial(is_past, began + DOWN_SECONDS))
                down_seconds = time.monotonic() - began
            stages[stage] = Counter(call.region for call in simulator.calls[seen:])
        records = JobRecords(await gateway.services.db.read(snapshot))
    moved = sum("failover_used" in [one["code"] for one in body["warnings"]] for body in bodies)
    return Run(simulator, records, moved, down_seconds, stages)


def was_asked(simulator: ProviderSimulator, seen: int) -> bool:
    return any(call.region == FIRST for call in simulator.calls[seen:])


def is_past(moment: float) -> bool:
    return time.monotonic() > moment


async def until(
    gateway: Gateway, random: Random, bodies: list[dict[str, Any]], is_over: Callable[[], bool]
) -> None:
    """Send a job every second, because the circuit breaker needs calls for its probes."""
    while not is_over():
        bodies += await sent(gateway, random, 1)
        await asyncio.sleep(1)


async def sent(gateway: Gateway, random: Random, count: int) -> list[dict[str, Any]]:
    """Send so many recordings at once; return them when all have ended."""

    async def one(sound: bytes) -> dict[str, Any]:
        job_id = (await gateway.send(sound, wait="0")).json()["id"]
        await gateway.services.worker.wait(job_id, JOB_SECONDS)
        body: dict[str, Any] = (await gateway.get(f"/v1/transcriptions/{job_id}")).json()
        return body

    # No two alike: the same bytes are kept once, and so is their length.
    sounds = [encode([random.randrange(1000) for _ in range(random.choice(LENGTHS))])
              for _ in range(count)]  # fmt: skip
    return list(await asyncio.gather(*map(one, sounds)))


if __name__ == "__main__":
    sys.exit(main())
