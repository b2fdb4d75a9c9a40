"""A worker is stopped while it runs jobs, another completes them, and the first continues."""

import asyncio
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.job_records import JobRecords, Rows, read_rows
from tests.support.kill import MODELS, recording
from tests.support.process import GatewayProcess, until

JOBS = 6
SLOW_SECONDS = 1.5  # of a call of the worker that is stopped
TIMEOUT_SECONDS = 60.0
# Events of a run that lost its job, or whose transaction was ended.
NOTICED = ("run.stale", "run.database_unavailable")


@dataclass
class Stopped:
    """The rows when the stopped worker continued, and the rows some time later."""

    before: Rows
    after: Rows
    taken_over: set[str]
    billed_seconds: int

    def violations(self) -> list[str]:
        records = JobRecords(self.after)
        changed = [name for name in self.before if self.before[name] != self.after[name]]
        return [
            *(f"the sleeper wrote into {name}" for name in changed),
            *records.violations(),
            *records.bill_violations(self.billed_seconds),
        ]


class Workers:
    """Two gateways with one database and one folder. The first one is slow, and is stopped."""

    def __init__(self, folder: Path, url: str, settings: dict[str, str]) -> None:
        self.sleeper = GatewayProcess(folder, url, SLOW_SECONDS, settings, name="sleeper")
        self.heir = GatewayProcess(folder, url, 0.0, settings, name="heir")

    def start(self) -> None:
        """Start both at the same time."""
        self.sleeper.spawn()
        self.heir.spawn()
        self.sleeper.wait_until_listening()
        self.heir.wait_until_listening()

    def stop_and_wake(self, seconds: float, seed: int) -> Stopped:
        """Stop the first worker for this time, and until the second has completed its jobs."""
        jobs = self._submit(random.Random(seed))
        until(lambda: self.sleeper.billed_seconds() > 0, TIMEOUT_SECONDS, "a call is billed")
        self.sleeper.signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        self._wait_for_the_heir(jobs, seconds + TIMEOUT_SECONDS)
        time.sleep(max(0.0, stopped_at + seconds - time.monotonic()))
        before = self._rows()
        taken = {row["id"] for row in before["transcription"] if row["run_epoch"] > 1}
        self.sleeper.signal(signal.SIGCONT)
        until(lambda: taken <= self._noticed(), TIMEOUT_SECONDS, "the sleeper notices")
        # A clean end waits for every run: nothing is written after it.
        assert (self.sleeper.stop(), self.heir.stop()) == (0, 0)
        return Stopped(before, self._rows(), taken, self.sleeper.billed_seconds())

    def _submit(self, chance: random.Random) -> list[str]:
        with httpx.Client(base_url=self.sleeper.url, timeout=TIMEOUT_SECONDS) as client:
            return [_send(client, recording(chance), MODELS[n % 2]) for n in range(JOBS)]

    def _wait_for_the_heir(self, jobs: list[str], seconds: float) -> None:
        with httpx.Client(base_url=self.heir.url, timeout=TIMEOUT_SECONDS) as client:
            until(lambda: all(_ended(client, job) for job in jobs), seconds, "all have ended")

    def _rows(self) -> Rows:
        return asyncio.run(read_rows(self.heir.database_url))

    def _noticed(self) -> set[str]:
        return {event["job"] for name in NOTICED for event in self.sleeper.events(name)}


def _send(client: httpx.Client, sound: bytes, model: str) -> str:
    answer = client.post(
        "/v1/transcriptions",
        files={"file": ("a.wav", sound)},
        data={"model": model, "wait": "0"},
    )
    return str(answer.raise_for_status().json()["id"])


def _ended(client: httpx.Client, job: str) -> bool:
    answer = client.get(f"/v1/transcriptions/{job}").raise_for_status()
    return answer.json()["status"] not in {"queued", "processing"}
