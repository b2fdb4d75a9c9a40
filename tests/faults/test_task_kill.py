"""A gateway killed around a submission: a task with a known id is polled, never submitted again.

Covers: app.jobs.filetrans.run
"""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.simulator import Delays, ProviderSimulator
from tests.support.job_records import JobRecords, read_rows
from tests.support.kill_modes import paid_twice
from tests.support.process import GatewayProcess, until
from tests.support.simulated_gateway import fast_catalogue
from tests.support.task_gateway import FILETRANS, THREE_SECONDS

pytestmark = pytest.mark.anyio
SERVE = ("-m", "app.cli.main", "serve")
END_SECONDS = 40.0
JOBS = {
    "JOBS__LEASE_SECONDS": "2",
    "JOBS__MAINTENANCE_INTERVAL_SECONDS": "0.3",
    "JOBS__POLL_INTERVAL_SECONDS": "0.2",
    "LOCAL__ENABLED": "false",
    "SERVER__SHUTDOWN_SECONDS": "3",
}


def process(simulator: ProviderSimulator, folder: Path, database_url: str) -> GatewayProcess:
    settings = {
        **JOBS,
        "SPEECH__CATALOGUE": str(fast_catalogue(folder)),
        "SPEECH__DEFAULT_MODEL": FILETRANS,
        "DASHSCOPE__API_KEY": simulator.key,
        "DASHSCOPE__BASE_URL": simulator.url,
    }
    return GatewayProcess(folder, database_url, settings=settings, command=SERVE)


def accepted(gateway: GatewayProcess) -> str:
    answer = httpx.post(
        f"{gateway.url}/v1/transcriptions",
        files={"file": ("a.wav", THREE_SECONDS)},
        data={"wait": "0"},
        timeout=20,
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def ended(gateway: GatewayProcess, job: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        body = httpx.get(f"{gateway.url}/v1/transcriptions/{job}", timeout=20).json()
        return body if body["status"] not in {"queued", "processing"} else None

    body: dict[str, Any] = until(found, END_SECONDS, f"{job} ends")
    return body


def try_anew(gateway: GatewayProcess, job: str) -> None:
    act(gateway, job, "retry", 202)


def act(gateway: GatewayProcess, job: str, name: str, status: int) -> None:
    answer = httpx.post(f"{gateway.url}/v1/transcriptions/{job}/{name}", timeout=20)
    assert answer.status_code == status, answer.text


async def test_a_known_task_is_polled_by_the_next_run(database_url: str, tmp_path: Path) -> None:
    async with ProviderSimulator(delays=Delays(pending=1, running=1.5)) as simulator:
        gateway = process(simulator, tmp_path, database_url)
        with gateway.gone_at_the_end():
            await asyncio.to_thread(gateway.start)
            job = await asyncio.to_thread(accepted, gateway)
            await asyncio.to_thread(until, lambda: gateway.events("task.submitted"), 20, "submit")
            gateway.kill()
            await asyncio.to_thread(gateway.start)
            body = await asyncio.to_thread(ended, gateway, job)
            assert (body["status"], body["text"]) == ("completed", "1 2 3"), body
            assert gateway.events("task.submitted") == []
            assert await asyncio.to_thread(gateway.stop) == 0
        assert len(simulator.tasks) == len(simulator.bill) == 1
        assert body["usage"]["seconds"] == sum(line.seconds for line in simulator.bill)


async def test_a_known_task_survives_a_cancelled_job_and_a_killed_process(
    database_url: str, tmp_path: Path
) -> None:
    async with ProviderSimulator(delays=Delays(pending=0, running=4)) as simulator:
        gateway = process(simulator, tmp_path, database_url)
        with gateway.gone_at_the_end():
            await asyncio.to_thread(gateway.start)
            job = await asyncio.to_thread(accepted, gateway)
            await asyncio.to_thread(until, lambda: gateway.events("task.submitted"), 20, "submit")
            await asyncio.to_thread(
                until, lambda: simulator.tasks[0].status == "RUNNING", 20, "it is begun with"
            )
            await asyncio.to_thread(act, gateway, job, "cancel", 200)
            gateway.kill()
            await asyncio.to_thread(gateway.start)
            await asyncio.to_thread(try_anew, gateway, job)
            gateway.kill()
            await asyncio.to_thread(gateway.start)
            body = await asyncio.to_thread(ended, gateway, job)
            assert (body["status"], body["text"]) == ("completed", "1 2 3"), body
            assert await asyncio.to_thread(gateway.stop) == 0
        assert len(simulator.tasks) == len(simulator.bill) == 1
        assert body["usage"]["seconds"] == sum(line.seconds for line in simulator.bill)
        records = JobRecords(await read_rows(database_url), word=None)
    assert list(records.violations()) == []
    calls = records.rows["upstream_call"]
    billed = {line.request_id for line in simulator.bill}
    assert list(paid_twice(calls, billed)) == []
    # No second task of the job is submitted unless the id of the first was never stored.
    second = {**calls[0], "id": "call_2", "task_id": "another"}
    assert list(paid_twice([*calls, second], billed)) == [f"{job} has paid for 2 tasks"]
    unseen = {**second, "state": "in_doubt", "task_id": None, "request_id": None}
    assert list(paid_twice([*calls, second, unseen], billed)) == []


async def test_a_submission_without_an_answer_is_in_doubt_and_not_repeated(
    database_url: str, tmp_path: Path
) -> None:
    async with ProviderSimulator(delays=Delays(0, 0), slow_seconds=30) as simulator:
        simulator.faults.next("slow")
        gateway = process(simulator, tmp_path, database_url)
        with gateway.gone_at_the_end():
            await asyncio.to_thread(gateway.start)
            job = await asyncio.to_thread(accepted, gateway)
            await asyncio.to_thread(until, lambda: simulator.tasks, 20, "a submit")
            gateway.kill()
            await asyncio.to_thread(gateway.start)
            body = await asyncio.to_thread(ended, gateway, job)
            assert (body["status"], body["error"]["code"]) == ("failed", "upstream_in_doubt")
            assert body["cost"]["nano"] == 0
            assert len(simulator.tasks) == 1
            await asyncio.to_thread(try_anew, gateway, job)
            body = await asyncio.to_thread(ended, gateway, job)
            assert (body["status"], body["text"]) == ("completed", "1 2 3"), body
            assert await asyncio.to_thread(gateway.stop) == 0
        assert len(simulator.tasks) == 2


async def test_a_shutdown_stores_the_task_of_a_submission_in_flight(
    database_url: str, tmp_path: Path
) -> None:
    async with ProviderSimulator(delays=Delays(0, 0), slow_seconds=2.5) as simulator:
        simulator.faults.next("slow")
        gateway = process(simulator, tmp_path, database_url)
        gateway.settings["SERVER__SHUTDOWN_SECONDS"] = "1"
        with gateway.gone_at_the_end():
            await asyncio.to_thread(gateway.start)
            job = await asyncio.to_thread(accepted, gateway)
            await asyncio.to_thread(until, lambda: simulator.tasks, 20, "a submit")
            assert await asyncio.to_thread(gateway.stop) == 0
            await asyncio.to_thread(gateway.start)
            body = await asyncio.to_thread(ended, gateway, job)
            assert (body["status"], body["text"]) == ("completed", "1 2 3"), body
        assert len(simulator.tasks) == len(simulator.bill) == 1
