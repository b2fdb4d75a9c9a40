"""SIGKILL at random moments under load with jobs of every mode; then all invariants are checked.

python -m bench.kill --database both --rounds 1000 [--seed N] [--load modes|uploads]

`modes`: the unmodified gateway before the simulator, which counts seconds and has its own bill
(tests/support/kill_modes.py). `uploads`: an engine that returns its input, for a higher rate of
short uploads (tests/support/kill.py).
"""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tests.support.kill import DELAY_SECONDS, SETTINGS, Killing, Verdict
from tests.support.kill_modes import ModesKilling, a_gateway, kill_simulator
from tests.support.postgres import database_of
from tests.support.process import GatewayProcess

KINDS = ("sqlite", "postgres")
LONGEST_LIFE_SECONDS = 5.0
END_SECONDS = 600.0  # for everything that was accepted to end
SHOWN = 20


def main() -> int:
    asked = arguments()
    print(f"seed {asked.seed}", flush=True)
    kinds = KINDS if asked.database == "both" else (asked.database,)
    return max(run(kind, asked.rounds, asked.seed, asked.load) for kind in kinds)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=(*KINDS, "both"), default="both")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--load", choices=("modes", "uploads"), default="modes")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    return parser.parse_args()


def run(kind: str, rounds: int, seed: int, load: str) -> int:
    folder = Path(tempfile.mkdtemp(prefix="gateway-kill-"))
    with database_of(kind, folder) as url:
        verdict = asyncio.run((modes if load == "modes" else uploads)(folder, url, rounds, seed))
    print(f"{kind}: {verdict.line()}", flush=True)
    for violation in verdict.violations[:SHOWN]:
        print(f"VIOLATION {violation}")
    if verdict.violations:
        print(f"{len(verdict.violations)} violations; the data is kept in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


async def uploads(folder: Path, url: str, rounds: int, seed: int) -> Verdict:
    gateway = GatewayProcess(folder, url, DELAY_SECONDS, SETTINGS)
    with gateway.gone_at_the_end():
        return await killed(Killing(gateway, seed, LONGEST_LIFE_SECONDS), rounds)


async def modes(folder: Path, url: str, rounds: int, seed: int) -> Verdict:
    async with kill_simulator(seed) as simulator:
        gateway = a_gateway(folder, url, simulator)
        with gateway.gone_at_the_end():
            return await killed(
                ModesKilling(gateway, seed, LONGEST_LIFE_SECONDS, simulator=simulator), rounds
            )


async def killed(killing: Killing, rounds: int) -> Verdict:
    for number in range(1, rounds + 1):
        await killing.round()
        if number % 10 == 0:
            print(f"  {number} kills, {len(killing.told.acknowledged)} acknowledged", flush=True)
    return await killing.judge(END_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
