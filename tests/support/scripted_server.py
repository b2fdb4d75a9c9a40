"""A gateway with the scripted engine in a process of its own, for tests that kill it.

python -m tests.support.scripted_server BILL_FILE DELAY_SECONDS
"""

import sys
from pathlib import Path

from app.kit.log import configure
from app.main import create_app
from app.serve import bind, run_server
from app.settings import Settings
from tests.support.scripted_engine import ScriptedEngine, only


def main(bill: str, delay: str) -> int:
    settings = Settings()
    configure(level=settings.log.level, line_format=settings.log.format)
    engine = ScriptedEngine(delay_seconds=float(delay), bill=Path(bill))
    with bind(settings.server) as bound:
        return run_server(create_app(settings, only(engine)), settings.server, bound)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
