"""A task whose job was cancelled, deleted or given up and then retried is paid once.

Covers: app.jobs.cancel
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from app.jobs.cancel import cancel
from app.jobs.tables import transcription
from tests.simulator import Delays
from tests.support.gateway import code_of
from tests.support.scenario import no_live_text
from tests.support.task_gateway import TaskGateway, task_gateway

pytestmark = pytest.mark.anyio
PATH = "/v1/transcriptions"
TIMEOUT_SECONDS = 20
SOONER_THAN_UPKEEP = 30  # which puts forsaken jobs back each minute


async def until(condition: Callable[[], Awaitable[bool] | bool]) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not (met := condition()) or (not isinstance(met, bool) and not await met):
            await asyncio.sleep(0.01)


async def sent(here: TaskGateway, status: str) -> str:
    """Send a recording and wait until its task is known and in this state."""
    job_id: str = (await here.send(wait="0")).json()["id"]

    async def is_known() -> bool:
        task = (await here.gateway.get(f"{PATH}/{job_id}")).json()["task_id"]
        return bool(task) and here.simulator.tasks[0].status == status

    await until(is_known)
    return job_id


async def retried(here: TaskGateway, job_id: str) -> None:
    response = await here.gateway.client.post(f"{PATH}/{job_id}/retry")
    assert response.status_code == 202, response.text


async def ended(here: TaskGateway, job_id: str) -> dict[str, object]:
    async with asyncio.timeout(SOONER_THAN_UPKEEP):
        return await here.gateway.ended(job_id)


async def test_a_retry_waits_for_a_running_task(database_url: str, tmp_path: Path) -> None:
    async with task_gateway(tmp_path, database=database_url, delays=Delays(0, 2)) as here:
        job_id = await sent(here, "RUNNING")
        assert (await here.gateway.client.post(f"{PATH}/{job_id}/cancel")).is_success
        assert await here.calls() == [("in_doubt", "maybe")]
        await retried(here, job_id)
        body = await ended(here, job_id)
        assert (body["status"], body["text"]) == ("completed", "1 2 3"), body
        assert len(here.submits) == len(here.simulator.bill) == 1
        assert await here.calls() == [("answered", "yes")]
        assert await here.lines() == ["hold", "release", "hold", "settle", "release"]
        await here.assert_settled()


async def test_a_retry_restarts_the_timeout_of_a_task(database_url: str, tmp_path: Path) -> None:
    jobs = {"task_timeout_seconds": 2.0}
    async with task_gateway(
        tmp_path, database=database_url, delays=Delays(0, 3), jobs=jobs
    ) as here:
        response = await here.send()
        assert code_of(response) == (504, "engine_timeout")
        job_id = response.json()["transcription_id"]
        await retried(here, job_id)
        body = await ended(here, job_id)
        assert (body["status"], body["text"]) == ("completed", "1 2 3"), body
        assert len(here.submits) == 1
        await here.assert_settled()


async def test_a_retry_waits_for_a_task_whose_id_arrives_later(
    database_url: str, tmp_path: Path
) -> None:
    """The run that submits the task is cancelled while it waits for the answer."""
    async with task_gateway(
        tmp_path, database=database_url, delays=Delays(0, 0), simulator={"slow_seconds": 2}
    ) as here:
        here.simulator.faults.next("slow")
        job_id = (await here.send(wait="0")).json()["id"]
        await until(lambda: bool(here.simulator.tasks))
        assert (await here.gateway.client.post(f"{PATH}/{job_id}/cancel")).is_success
        await retried(here, job_id)
        body = await ended(here, job_id)
        assert (body["status"], body["text"]) == ("completed", "1 2 3"), body
        assert len(here.submits) == len(here.simulator.bill) == 1


async def test_a_retry_submits_a_cancelled_task_again(database_url: str, tmp_path: Path) -> None:
    async with task_gateway(tmp_path, database=database_url, delays=Delays(600, 0)) as here:
        job_id = await sent(here, "PENDING")
        assert (await here.gateway.client.post(f"{PATH}/{job_id}/cancel")).is_success
        assert await here.calls() == [("failed", "no")]
        await retried(here, job_id)
        await until(lambda: len(here.simulator.tasks) == 2)


async def test_a_retry_submits_a_task_again_whose_cancellation_was_not_stored(
    database_url: str, tmp_path: Path
) -> None:
    async with task_gateway(tmp_path, database=database_url, delays=Delays(600, 0)) as here:
        job_id = await sent(here, "PENDING")
        (row,) = await here.gateway.rows(transcription)
        services = here.gateway.services
        await services.db.write(
            cancel,
            row["project_id"],
            job_id,
            local_engines=(),
            has_live_text=no_live_text,
            now=services.clock(),
        )
        async with httpx.AsyncClient(
            headers={"Authorization": f"Bearer {here.simulator.key}"}
        ) as far:
            gone = await far.post(
                f"{here.simulator.url}/api/v1/tasks/{here.simulator.tasks[0].id}/cancel"
            )
        assert gone.is_success, gone.text
        await retried(here, job_id)
        await until(lambda: len(here.simulator.tasks) == 2)
        await until(lambda: _is(here, [("failed", "no"), ("open", None)]))


async def _is(here: TaskGateway, calls: list[tuple[str, str | None]]) -> bool:
    return await here.calls() == calls
