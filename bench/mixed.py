"""Mixed jobs against a simulator with random faults; at the end ledger and bill are compared.

python -m bench.mixed [--jobs 1000] [--faults 0.2] [--seed N] [--database sqlite|postgres]

The gateway is the real one, except for its timeout for a silent provider (10 s) and the account's
rate limit (tests/support/simulated_gateway.py). The load is that of tests/support/mixed.py.
"""

import argparse
import asyncio
import logging
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from app.kit.log import log
from tests.support.mixed import Trial, Verdict
from tests.support.postgres import database_of

SHOWN = 20


def main() -> int:
    asked = arguments()
    log.threshold = logging.CRITICAL
    folder = Path(tempfile.mkdtemp(prefix="gateway-mixed-"))
    with database_of(asked.database, folder) as url:
        verdict = asyncio.run(Trial(asked.jobs, asked.faults, asked.seed, folder, url).run())
    return print_verdict(verdict, asked, folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--faults", type=float, default=0.2, help="share of calls with a fault")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    return parser.parse_args()


def print_verdict(verdict: Verdict, asked: argparse.Namespace, folder: Path) -> int:
    print(f"{asked.database}, seed {asked.seed}: {verdict.line()}", flush=True)
    for violation in verdict.violations[:SHOWN]:
        print(f"VIOLATION {violation}")
    if verdict.violations:
        print(f"{len(verdict.violations)} violations; the data is kept in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
