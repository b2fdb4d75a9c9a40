"""A 2xx is durable: the gateway is killed under load and loses no acknowledged request.

Once with short uploads, once with jobs of every mode and the simulator. The long form is
`python -m bench.kill --rounds 1000`. KILL_SEED repeats a run.

Covers: app.jobs.store.runs, app.jobs.worker.worker
"""

import asyncio
import os
import secrets
from pathlib import Path

import pytest

from tests.support.kill import DELAY_SECONDS, SETTINGS, Killing, Verdict
from tests.support.kill_modes import ModesKilling, a_gateway, kill_simulator
from tests.support.process import GatewayProcess

ROUNDS, MODES_ROUNDS = 5, 20  # on each database
LONGEST_LIFE_SECONDS = 1.2
END_SECONDS = 120.0
TIMEOUT_SECONDS = 600


@pytest.fixture
def seed() -> int:
    chosen = int(os.environ.get("KILL_SEED") or secrets.randbelow(1_000_000))
    print(f"KILL_SEED={chosen}")  # noqa: T201 - pytest shows it with a failure
    return chosen


async def killed(killing: Killing, rounds: int) -> Verdict:
    for _ in range(rounds):
        await killing.round()
    verdict = await killing.judge(END_SECONDS)
    print(verdict.line())  # noqa: T201
    return verdict


def test_no_acknowledged_upload_is_lost(database_url: str, tmp_path: Path, seed: int) -> None:
    gateway = GatewayProcess(tmp_path, database_url, DELAY_SECONDS, SETTINGS)
    with gateway.gone_at_the_end():
        verdict = asyncio.run(killed(Killing(gateway, seed, LONGEST_LIFE_SECONDS), ROUNDS))
    assert verdict.violations == []
    assert verdict.figures["acknowledged"], "no load, no proof"


@pytest.mark.anyio
@pytest.mark.timeout(TIMEOUT_SECONDS)
async def test_no_job_of_any_mode_is_lost_or_paid_twice(
    database_url: str, tmp_path: Path, seed: int
) -> None:
    async with kill_simulator(seed) as simulator:
        gateway = a_gateway(tmp_path, database_url, simulator)
        with gateway.gone_at_the_end():
            killing = ModesKilling(gateway, seed, LONGEST_LIFE_SECONDS, simulator=simulator)
            verdict = await killed(killing, MODES_ROUNDS)
    assert verdict.violations == []
    assert verdict.figures["tasks"], "no load, no proof"
    assert verdict.figures["streams"], "no load, no proof"
