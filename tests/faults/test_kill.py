"""A 2xx is durable: the gateway is killed under load and keeps every word it gave.

The long form is `python -m bench.kill --rounds 50`. KILL_SEED repeats a run.
"""

import asyncio
import os
import secrets
from pathlib import Path

import pytest

from tests.support.kill import DELAY_SECONDS, SETTINGS, Killing, Verdict
from tests.support.process import GatewayProcess

ROUNDS = 5
LONGEST_LIFE_SECONDS = 1.2
END_SECONDS = 60.0


@pytest.fixture
def seed() -> int:
    chosen = int(os.environ.get("KILL_SEED") or secrets.randbelow(1_000_000))
    print(f"KILL_SEED={chosen}")  # noqa: T201 - pytest shows it with a failure
    return chosen


async def killed(gateway: GatewayProcess, seed: int) -> Verdict:
    killing = Killing(gateway, seed, LONGEST_LIFE_SECONDS)
    for _ in range(ROUNDS):
        await killing.round()
    return await killing.judge(END_SECONDS)


def test_nothing_acknowledged_is_lost(database_url: str, tmp_path: Path, seed: int) -> None:
    gateway = GatewayProcess(tmp_path, database_url, DELAY_SECONDS, SETTINGS)
    with gateway.gone_at_the_end():
        verdict = asyncio.run(killed(gateway, seed))
    print(verdict.line())  # noqa: T201
    assert verdict.violations == []
    assert verdict.figures["acknowledged"], "no load, no proof"
