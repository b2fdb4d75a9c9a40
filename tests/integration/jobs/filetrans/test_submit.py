"""The order of submits: jobs of raised priority wait for a slot, others are deferred.

Covers: app.jobs.filetrans.address, app.jobs.filetrans.pacing, app.jobs.filetrans.submit
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from app.db.database import Database
from app.jobs.filetrans.address import Address
from app.jobs.filetrans.pacing import PollPacing
from app.jobs.filetrans.submit import TaskSubmitter
from app.jobs.store.job import Job
from app.jobs.store.runs import Deferred
from app.settings import JobSettings
from app.speech.task_engine import SubmittedTask, TaskRequest
from tests.support.scenario import PLAN, Scenario, job_spec, recording

pytestmark = pytest.mark.anyio
TIMEOUT_SECONDS = 10
TASK_PLAN = replace(PLAN, kind="filetrans", audio_source="provider_upload", as_is=True)


class Addresses:
    """Gives every job an address."""

    async def of(self, *_: Any) -> Address:
        return Address("https://far.example/a.wav", "0" * 64)

    def forget(self, _: str) -> None: ...


class GatedEngine:
    """An engine whose submits end once the gate is open; records the priority of each admission."""

    polls_per_second = 10.0
    may_upload = True

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.admitted: list[int] = []

    @asynccontextmanager
    async def admit(
        self, _model: str, _max_wait_seconds: float, priority: int = 0
    ) -> AsyncIterator[None]:
        self.admitted.append(priority)
        yield

    async def submit(self, _order: TaskRequest) -> SubmittedTask:
        await self.gate.wait()
        return SubmittedTask(f"task-{len(self.admitted)}", None)


async def a_job(db: Database, priority: int) -> Job:
    name = f"p{priority}"
    scenario = await Scenario.create(
        db,
        audio=recording(name, sha256=f"{priority:064x}"),
        wanted=job_spec(plan=TASK_PLAN, priority=priority),
    )
    job = await scenario.claim()
    return replace(job, duration_ms=2_000)


async def until(condition: Any) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_task_of_raised_priority_is_submitted_before_deferred_ones(db: Database) -> None:
    engine, settings = GatedEngine(), JobSettings(max_concurrent_submits=1)
    submitter = TaskSubmitter(
        db,
        {"scripted": engine},  # type: ignore[dict-item]
        Addresses(),  # type: ignore[arg-type]
        PollPacing(settings, Random(1)),
        settings=settings,
        longest_ms=60_000,
        clock=lambda: Scenario.now,
    )
    first, low, urgent, most_urgent = [await a_job(db, one) for one in (0, -1, 1, 2)]
    async with asyncio.TaskGroup() as group:
        group.create_task(submitter.submit(first))
        await until(lambda: engine.admitted)
        with pytest.raises(Deferred) as deferred:
            await submitter.submit(low)
        assert (deferred.value.clock, deferred.value.reason) == ("paused", "submit_slot")
        group.create_task(submitter.submit(urgent))
        group.create_task(submitter.submit(most_urgent))
        await asyncio.sleep(0.05)
        assert engine.admitted == [0]
        engine.gate.set()
    assert engine.admitted == [0, 2, 1]
    # The submits that ended have released their slots.
    await submitter.submit(low)
    assert engine.admitted[-1] == -1
