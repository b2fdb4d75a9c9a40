"""A gateway with few file descriptors: jobs wait, and uploads are told to come back.

Covers: app.kit.memory, app.server_errors
"""

import resource
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gateway import SPEECH
from tests.support.process import GatewayProcess, until

SECONDS = 60.0
PROGRAM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))
from tests.support.scripted_server import main
sys.exit(main({bill!r}, "1"))
"""


def gateway_with(files: int, folder: Path) -> GatewayProcess:
    program = PROGRAM.format(files=files, bill=str(folder / "bill.jsonl"))
    settings = {"AUDIO__MIN_FREE_BYTES": "0", "LOCAL__ENABLED": "false"}
    return GatewayProcess(folder, settings=settings, command=("-c", program))


def test_idle_connections_do_not_make_a_job_fail(tmp_path: Path) -> None:
    """ATTACKS H3: 256 descriptors and 400 sockets that send half a request."""
    gateway = gateway_with(256, tmp_path)
    with gateway.gone_at_the_end():
        gateway.start()
        address = httpx.URL(gateway.url)
        sent = httpx.post(
            f"{gateway.url}/v1/transcriptions",
            files={"file": SPEECH.read_bytes()},
            data={"mode": "async"},
        )
        assert sent.status_code == 202
        idle = [socket.create_connection((address.host, address.port)) for _ in range(400)]
        for client in idle:
            try:
                client.sendall(b"GET /")
            except ConnectionError:
                continue  # it was refused already
        time.sleep(3)
        for client in idle:
            client.close()

        def ended() -> dict[str, Any] | None:
            try:
                job = httpx.get(f"{gateway.url}{sent.headers['location']}").json()
            except httpx.TransportError:
                return None
            return job if job.get("status") in {"completed", "failed"} else None

        assert until(ended, SECONDS, "the job ends")["status"] == "completed"


def test_uploads_without_descriptors_are_told_to_come_back(tmp_path: Path) -> None:
    """ATTACKS H3: 64 descriptors and 80 uploads, 40 at a time."""
    gateway = gateway_with(64, tmp_path)
    with gateway.gone_at_the_end():
        gateway.start()
        audio = SPEECH.read_bytes()

        def upload(_: int) -> int:
            try:
                answer = httpx.post(
                    f"{gateway.url}/v1/transcriptions",
                    files={"file": audio},
                    data={"mode": "async"},
                    timeout=SECONDS,
                )
            except httpx.TransportError:
                return 0  # closed at once, above the second limit
            if answer.status_code == 503:
                assert "retry-after" in answer.headers, answer.text
            return answer.status_code

        with ThreadPoolExecutor(40) as pool:
            found = Counter(pool.map(upload, range(80)))
        assert found.keys() <= {0, 202, 429, 503}, found
        assert found[202]
        jobs = f"{gateway.url}/v1/transcriptions?limit=100"

        def all_ended() -> bool:
            items = httpx.get(jobs).json()["items"]
            statuses = Counter(item["status"] for item in items)
            assert not statuses["failed"], [item for item in items if item["status"] == "failed"]
            return statuses.keys() == {"completed"}

        until(all_ended, SECONDS, "all jobs are completed")


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    """ATTACKS H3: systemd and most shells set a soft limit of 1,024."""
    program = (
        "import resource; from app.kit.memory import raise_open_files_limit, open_files_limit;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 500)); raise_open_files_limit();"
        "print(open_files_limit())"
    )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 500:
        pytest.skip("this machine allows fewer files")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "500\n"
