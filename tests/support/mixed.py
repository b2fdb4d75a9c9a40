"""Mixed jobs against a simulator with random faults; at the end ledger and bill are compared.

The settled amount must equal the bill of the answered calls, the whole bill may be at most that and
the amount in doubt, and every job must have ended. Then the operators' command reconciles the
bill, after which the ledger must equal it call by call.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.simulator import FAULTS, ProviderSimulator, Script
from tests.simulator.answers import Pace
from tests.simulator.counting import encode
from tests.support.gateway import NANO_PER_SECOND, Gateway
from tests.support.job_records import WORD, JobRecords, read_rows
from tests.support.simulated_gateway import simulated_gateway

# The three request formats. Only two are billed; vLLM runs on the operator's machines.
MODELS = (
    "qwen3-asr-flash",
    "qwen3-asr-flash-2026-02-10",
    "qwen-audio-3.0-asr-flash",
    "fun-asr-flash-2026-06-15",
    "vllm/qwen3-asr-1.7b",
)
SOLD = "dashscope"
EXPLAINED = {"in_doubt_billed", "in_doubt_not_billed"}
ODD_MILLIS = (0, 1, 480, 500, 999)  # beyond whole seconds: where roundings differ
SHORT_SECONDS, LONG_SECONDS = (1, 2, 3, 5, 8, 13), (250, 310)
LONG_SHARE = 0.01
# Faults of streams apply to streams only.
STREAMS_ONLY = ("error-in-stream", "duplicate-frames")
KINDS = [name for name in FAULTS if name not in STREAMS_ONLY]
HEADER_BYTES = 44
JOB_SECONDS = 300.0
BYTES_PER_MS = 32
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Trial:
    """The number of jobs and the faults.

    `at_once` defaults to the gateway's number of concurrent jobs. `answer_seconds` is the gateway's
    timeout for a silent provider. Answers that a slow machine delays beyond it count as answered in
    the simulator only.
    """

    jobs: int
    faults: float
    seed: int
    folder: Path
    database_url: str
    at_once: int = 32
    answer_seconds: float = 10.0

    async def run(self) -> "Verdict":
        """Send the jobs, wait for their ends, and reconcile twice."""
        started = time.monotonic()
        faults = dict.fromkeys(KINDS, self.faults / len(KINDS))
        simulator = ProviderSimulator(
            regions=("cn-beijing", "vllm"),
            seed=self.seed,
            faults=faults,
            words=Script(WORD),
            pace=Pace(0.05),
            slow_seconds=1.0,
        )
        async with simulator, self._gateway(simulator) as gateway:
            await self._send_all(gateway)
        seconds = time.monotonic() - started
        records = JobRecords(await read_rows(self.database_url), SOLD)
        (self.folder / "bill.csv").write_text(simulator.bill.csv())
        first, second = [
            await asyncio.to_thread(reconciled, self.folder, self.database_url) for _ in range(2)
        ]
        after = JobRecords(await read_rows(self.database_url), SOLD)
        return Verdict(self.jobs, records, simulator, seconds, first, second, after)

    def _gateway(self, simulator: ProviderSimulator) -> Any:
        return simulated_gateway(
            simulator, self.folder, database=self.database_url, answer_seconds=self.answer_seconds
        )

    async def _send_all(self, gateway: Gateway) -> None:
        sending = asyncio.Semaphore(self.at_once)
        whole = await asyncio.to_thread(encode, range(LONG_SECONDS[-1] + 1), pause_every=7)
        mixed = random_requests(Random(self.seed), self.jobs)
        await asyncio.gather(*(_send(gateway, sending, whole, *wish) for wish in mixed))


@dataclass
class Verdict:
    """The requests, the records before and after reconciliation, and the simulator's bill."""

    sent: int
    records: JobRecords
    simulator: ProviderSimulator
    seconds: float
    first: dict[str, Any]
    second: dict[str, Any]
    after: JobRecords

    @property
    def violations(self) -> list[str]:
        return [
            *self._broken_bill(),
            *self.records.violations(),
            *self._broken_reconciliation(),
            *self.after.violations(),
        ]

    @property
    def billed_nano(self) -> dict[str, int]:
        return {line.request_id: line.seconds * NANO_PER_SECOND for line in self.simulator.bill}

    def _broken_bill(self) -> Iterator[str]:
        kept = self.records.statuses.total()
        if kept != self.sent:
            yield f"{self.sent} jobs were accepted, {kept} are there"
        settled, answered = self.records.settled_seconds, self.simulator.bill.seconds(answered=True)
        if settled != answered:
            yield f"settled {settled} s, billed for answered calls {answered} s"
        yield from self.records.bill_violations(self.simulator.bill.seconds())
        lines = {line.request_id: line.seconds for line in self.simulator.bill if line.answered}
        answers = {name: seconds * NANO_PER_SECOND for name, seconds in lines.items()}
        yield from (
            f"before the bill: {words}" for words in self.records.equality_violations(answers)
        )

    def _broken_reconciliation(self) -> Iterator[str]:
        for which, said in (("first", self.first), ("second", self.second)):
            if said["status"] != 0:
                yield f"the {which} reconciliation ended with {said['status']}"
            odd = {one["kind"] for one in said["differences"]} - EXPLAINED
            if odd:
                yield f"the {which} reconciliation found {sorted(odd)}"
        yield from self.after.equality_violations(self.billed_nano)
        wrote = len(self.after.rows["ledger_line"]) - len(self.records.rows["ledger_line"])
        if wrote != self.kinds_found["in_doubt_billed"]:
            yield f"{wrote} lines were written for {dict(self.kinds_found)}"
        if any(one["nano"] for one in self.second["differences"]):
            yield "the second reconciliation still found money"

    @property
    def kinds_found(self) -> Counter[str]:
        return Counter(one["kind"] for one in self.first["differences"])

    def line(self) -> str:
        records, bill = self.records, self.simulator.bill
        met = Counter(call.fault for call in self.simulator.calls if call.fault)
        ours = self.after.nano_by_request().total()
        return (
            f"{self.sent} jobs {dict(records.statuses)} in {self.seconds:.0f} s, failures "
            f"{dict(records.failures)}, {len(self.simulator.calls)} calls, {met.total()} faults of "
            f"{len(met)} kinds, bill ({bill.rounding}) {bill.seconds()} s = settled "
            f"{records.settled_seconds:g} + {bill.seconds(answered=False)} of "
            f"{records.in_doubt_seconds} in doubt; reconciled {dict(self.kinds_found)}: ours "
            f"{ours} nano, the bill {sum(self.billed_nano.values())}, "
            f"{len(self.violations)} violations"
        )


def random_requests(random: Random, count: int) -> Iterator[tuple[int, str]]:
    """Return random lengths in milliseconds with models."""
    for _ in range(count):
        lengths = LONG_SECONDS if random.random() < LONG_SHARE else SHORT_SECONDS
        millis = random.choice(lengths) * 1000 + random.choice(ODD_MILLIS)
        yield millis, random.choice(MODELS)


def reconciled(folder: Path, database_url: str) -> dict[str, Any]:
    """Run `asr-gateway reconcile --apply` with the folder's bill.csv; add its exit status."""
    command = ["-m", "app.cli.main", "reconcile", "--bill", "bill.csv", "--apply", "--json"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        cwd=folder,
        env=clean | {"GATEWAY_DATABASE__URL": database_url, "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert done.stdout, done.stderr
    return {**json.loads(done.stdout), "status": done.returncode}


async def _send(
    gateway: Gateway, sending: asyncio.Semaphore, whole: bytes, millis: int, model: str
) -> None:
    """Send a job and wait until it ends. The records show a job that does not end."""
    async with sending:
        sound = whole[: HEADER_BYTES + millis * BYTES_PER_MS]
        response = await gateway.send(sound, model=model, wait=0)
        said = response.json()  # on a slow machine a job may have ended before its POST is answered
        job_id = said.get("id") or said.get("transcription_id")
        assert job_id, response.text
        await gateway.services.worker.wait(job_id, JOB_SECONDS)
