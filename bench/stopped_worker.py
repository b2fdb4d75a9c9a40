"""A worker is stopped for 40 s with the default lease of 30 s, and continued: it writes nothing.

python -m bench.stopped_worker [--seconds 40] [--seed N]
"""

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from tests.support.postgres import Databases, running_postgres
from tests.support.stopped_worker import Stopped, Workers

# The heir looks more often than each minute: it has ended the jobs before the sleeper wakes.
OFTEN = {"JOBS__MAINTENANCE_INTERVAL_SECONDS": "2"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="gateway-stopped-") as folder:
        stopped = run(Path(folder), asked.seconds, asked.seed)
    violations = stopped.violations()
    rows = {name: len(rows) for name, rows in stopped.after.items()}
    print(f"taken over {len(stopped.taken_over)}, rows {rows}, billed {stopped.billed_seconds} s")
    print(f"violations {len(violations)}", *violations, sep="\n  ")
    return int(bool(violations) or not stopped.taken_over)


def run(folder: Path, seconds: float, seed: int) -> Stopped:
    with running_postgres() as server:
        workers = Workers(folder, Databases(server).empty(), OFTEN)
        with workers.sleeper.gone_at_the_end(), workers.heir.gone_at_the_end():
            workers.start()
            return workers.stop_and_wake(seconds, seed)


if __name__ == "__main__":
    sys.exit(main())
