"""`asr-gateway demo`, the first command of the README: real speech over HTTP.

Covers: app.cli.demo
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.sample_text import word_error_rate

WORST_WORD_ERROR_RATE = 0.10
TIMEOUT_SECONDS = 110


def test_the_demo_prints_the_words_of_a_real_recording(tmp_path: Path) -> None:
    port = _free_port()
    done = subprocess.run(
        [sys.executable, "-m", "app.cli.main", "demo", "--once", "--port", str(port)],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
        env=os.environ | {"GATEWAY_DATA_DIR": str(tmp_path / "data")},
    )
    assert done.returncode == 0, done.stderr
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if "  " in line)
    assert word_error_rate(rows["transcript"]) < WORST_WORD_ERROR_RATE
    assert rows["language"] == "en"
    assert rows["cost"] == "0 CNY"
    assert rows["job"].startswith("tr_")
    assert rows["docs"] == f"http://127.0.0.1:{port}/docs"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
