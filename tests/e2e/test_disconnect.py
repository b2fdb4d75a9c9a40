"""A client that disconnects, on a real socket: the job finishes or is cancelled (`on_disconnect`).

Covers: app.api.http.disconnect, app.api.v1.response.wait, app.jobs.worker.waiters
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.process import GatewayProcess, until

TIMEOUT_SECONDS = 20.0
CALL_SECONDS = 2.0
PATH = "/v1/transcriptions"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path, f"sqlite:///{tmp_path / 'gateway.db'}", CALL_SECONDS)
    with process.gone_at_the_end():
        process.start()
        yield process


def hang_up(gateway: GatewayProcess, recording: bytes, **options: str) -> float:
    """Send a recording and close the connection before the answer. Return the time of the close."""
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{gateway.url}{PATH}",
            files={"file": ("a.wav", recording)},
            data=options,
            timeout=httpx.Timeout(TIMEOUT_SECONDS, read=0.5),
        )
    return time.monotonic()


def only_job(gateway: GatewayProcess) -> dict[str, Any]:
    (job,) = httpx.get(f"{gateway.url}{PATH}").raise_for_status().json()["items"]
    return dict(job)


def ended(gateway: GatewayProcess) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        job = only_job(gateway)
        return job if job["completed_at"] else None

    return dict(until(look, TIMEOUT_SECONDS, "the job ends"))


def test_by_default_a_job_finishes_after_a_disconnect(
    gateway: GatewayProcess, recording: bytes
) -> None:
    hang_up(gateway, recording)
    job = ended(gateway)
    assert (job["status"], job["text"]) == ("completed", "heard")
    assert gateway.stop() == 0


@pytest.mark.parametrize("mode", ["sync", "stream"])
def test_on_disconnect_cancel_cancels_the_job(
    gateway: GatewayProcess, recording: bytes, mode: str
) -> None:
    left = hang_up(gateway, recording, mode=mode, on_disconnect="cancel")
    assert ended(gateway)["status"] == "cancelled"
    assert time.monotonic() - left < CALL_SECONDS  # it was not waited for the call
    assert gateway.stop() == 0
    assert gateway.events("job.completed") == []


def test_a_disconnect_after_202_does_not_cancel_an_async_job(
    gateway: GatewayProcess, recording: bytes
) -> None:
    sent = httpx.post(
        f"{gateway.url}{PATH}",
        files={"file": ("a.wav", recording)},
        data={"mode": "async", "on_disconnect": "cancel"},
    )
    assert sent.status_code == 202
    assert ended(gateway)["status"] == "completed"
