"""Jobs wait without a slot for a provider that is down, and complete when it recovers.

Covers: app.jobs.store.attempts, app.jobs.upstream.caller, app.jobs.upstream.retry_policy,
app.net.breaker
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from app.jobs.store.attempts import MAX_ATTEMPTS
from app.jobs.tables import transcription, upstream_call
from app.jobs.upstream import caller, retry_policy
from app.net import breaker
from app.speech.engine import ErrorKind
from tests.simulator import ProviderSimulator, Script
from tests.simulator.counting import encode
from tests.support.captured_log import capture_logs
from tests.support.gateway import Gateway, code_of
from tests.support.simulated_gateway import simulated_gateway

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120), pytest.mark.alone]
REGION = "cn-beijing"
JOBS, AT_ONCE = 24, 4
SOUND = encode([1, 2])


@pytest.fixture(autouse=True)
def scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten all delays, and lower the limit above which a job is deferred."""
    monkeypatch.setattr(breaker, "OPEN_SECONDS", 0.5)
    monkeypatch.setattr(breaker, "MAX_OPEN_SECONDS", 1.0)
    monkeypatch.setattr(breaker, "PROBE_SECONDS", 1.0)
    monkeypatch.setattr("app.net.retry.MIN_RETRIES", 1_000)
    monkeypatch.setattr(retry_policy, "LONGEST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(caller, "LONG_SECONDS", 0.3)


async def sent(gateway: Gateway, count: int) -> list[str]:
    answers = await asyncio.gather(*(gateway.send(SOUND, wait="0") for _ in range(count)))
    return [answer.json()["id"] for answer in answers]


async def put_off(gateway: Gateway, least: int) -> None:
    """Wait until this number of jobs, more than there are slots, has been started."""
    assert least > AT_ONCE
    async with asyncio.timeout(30):
        while True:
            rows = await gateway.rows(transcription, status="processing")
            leased = [row for row in rows if row["lease_until"] is not None]
            if len(leased) >= least:
                return
            await asyncio.sleep(0.01)


async def test_all_jobs_complete_when_the_provider_recovers(
    database_url: str, tmp_path: Path
) -> None:
    with capture_logs() as logged:
        async with (
            ProviderSimulator(words=Script("heard")) as simulator,
            simulated_gateway(
                simulator, tmp_path, database=database_url, jobs={"max_concurrent_jobs": AT_ONCE}
            ) as gateway,
        ):
            simulator.faults.down(REGION)
            ids = await sent(gateway, JOBS)
            await put_off(gateway, JOBS)
            calls_by_then = len(simulator.calls)
            await asyncio.sleep(1.5)  # of the outage, in which only probes are made
            probes = len(simulator.calls) - calls_by_then
            simulator.faults.up(REGION)
            bodies = [await ended(gateway, job_id) for job_id in ids]
            rows = await gateway.rows(transcription)
    assert [body["status"] for body in bodies] == ["completed"] * JOBS
    assert probes <= 3
    assert max(row["run_epoch"] for row in rows) > 1
    assert (
        max(row["runs_without_progress"] for row in rows) <= 1
    )  # a wait is not counted against a job
    assert sum(body["usage"]["seconds"] for body in bodies) == simulator.bill.seconds()
    # The breaker is open.
    assert ("not_admitted", ErrorKind.UNAVAILABLE) in deferrals_in(logged)


def deferrals_in(logged: list[dict[str, Any]]) -> list[tuple[str, str]]:
    lines = [line for line in logged if line["event"] == "job.deferred"]
    return [(line["reason"], line["kind"]) for line in lines]


async def ended(gateway: Gateway, job_id: str) -> dict[str, Any]:
    await gateway.services.worker.wait(job_id, 60)
    return (await gateway.get(f"/v1/transcriptions/{job_id}")).json()


async def test_the_retry_timeout_fails_the_job_with_its_last_error(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        ProviderSimulator() as simulator,
        simulated_gateway(
            simulator,
            tmp_path,
            database=database_url,
            jobs={"max_concurrent_jobs": AT_ONCE, "retry_timeout_seconds": 2},
        ) as gateway,
    ):
        simulator.faults.down(REGION)
        began = time.monotonic()
        answer = await gateway.send(SOUND)
        seconds = time.monotonic() - began
        calls = await gateway.rows(upstream_call)
    assert code_of(answer) == (503, "engine_unavailable")
    assert 2 <= seconds < 6
    assert len(calls) > MAX_ATTEMPTS  # no connection: that is no attempt
    assert {call["state"] for call in calls} == {"failed"}


async def test_accepted_calls_that_fail_are_retried_three_times_across_deferrals(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "LONG_SECONDS", 0.0)
    with capture_logs() as logged:
        async with (
            ProviderSimulator() as simulator,
            simulated_gateway(simulator, tmp_path, database=database_url) as gateway,
        ):
            simulator.faults.down(REGION, "500")
            answer = await gateway.send(SOUND)
            (job,) = await gateway.rows(transcription)
            calls = await gateway.rows(upstream_call)
    assert code_of(answer) == (502, "engine_failed")
    assert [call["attempt"] for call in calls] == [1, 2, 3]
    assert [call["run_epoch"] for call in calls] == [1, 2, 3]
    assert job["run_epoch"] == 3
    assert deferrals_in(logged) == [("call_failed", ErrorKind.INTERNAL)] * 2


async def test_shutdown_does_not_wait_for_deferred_jobs(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "OPEN_SECONDS", 60.0)
    jobs = {"max_concurrent_jobs": AT_ONCE}
    async with ProviderSimulator(words=Script("heard")) as simulator:
        async with simulated_gateway(
            simulator, tmp_path, database=database_url, jobs=jobs
        ) as gateway:
            simulator.faults.down(REGION)
            ids = await sent(gateway, JOBS)
            await put_off(gateway, JOBS)
            began = time.monotonic()
        assert time.monotonic() - began < 10  # of a grace of 30
        simulator.faults.up(REGION)
        if database_url.startswith("postgresql"):
            return  # there another process may hold a job: its lease has to end first
        async with simulated_gateway(
            simulator, tmp_path, database=database_url, jobs=jobs
        ) as gateway:
            bodies = [await ended(gateway, job_id) for job_id in ids]
    assert [body["status"] for body in bodies] == ["completed"] * JOBS


async def test_a_waiting_caller_gets_202_when_the_gateway_closes(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        ProviderSimulator() as simulator,
        simulated_gateway(simulator, tmp_path, database=database_url) as gateway,
    ):
        simulator.faults.down(REGION)
        answer = await gateway.send(SOUND, wait="1")
    assert answer.status_code == 202
    assert answer.json()["status"] == "processing"
