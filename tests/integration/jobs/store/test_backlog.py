"""The backlog: the open jobs ahead of a new one.

Covers: app.jobs.store.backlog
"""

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from app.db.database import Database
from app.jobs.store.backlog import Backlog, backlogs_ahead
from app.jobs.tables import transcription
from tests.support.scenario import PLAN, Scenario, job_spec, recording

pytestmark = pytest.mark.anyio


async def ahead(db: Database, **asked: Any) -> list[Backlog]:
    return await db.read(backlogs_ahead, **asked)


async def counts(db: Database, priority: int = 0) -> tuple[int, int]:
    (one,) = await ahead(db, priority=priority)
    return one.jobs, one.running


async def test_running_jobs_are_ahead_of_every_priority(db: Database) -> None:
    running = await Scenario.create(db, lease_seconds=3600)
    await Scenario.create(db)
    await Scenario.create(db, wanted=job_spec(priority=50))
    assert (await running.row())["status"] == "processing"
    assert await counts(db) == (3, 1)
    assert await counts(db, priority=50) == (2, 1)
    assert await counts(db, priority=100) == (1, 1)


async def test_filetrans_jobs_are_not_in_the_backlog(db: Database) -> None:
    task = replace(PLAN, kind="filetrans")
    for _ in range(3):
        await Scenario.create(db, wanted=job_spec(priority=9, plan=task))
    assert await ahead(db) == []
    await Scenario.create(db)
    assert [one.calls for one in await ahead(db)] == [1]


async def test_calls_left_are_estimated_from_the_remaining_length(
    db: Database,
) -> None:
    split = replace(PLAN, kind="split", part_seconds=100)
    long = await Scenario.create(db, wanted=job_spec(plan=split), audio=recording(seconds=901.0))
    unknown = recording("b", sha256="1" * 64, seconds=None)
    await Scenario.create(db, wanted=job_spec(plan=split), audio=unknown)
    assert await ahead(db) == [Backlog("scripted", "echo", jobs=2, running=0, calls=11 + 1)]
    job = await long.claim(lease_seconds=3600)
    await long.call(job)
    half_done = sa.update(transcription).values(done_ms=450_000)
    await db.write(lambda tx: tx.execute(half_done.where(transcription.c.id == long.id)))
    assert await ahead(db) == [
        Backlog("scripted", "echo", jobs=2, running=1, calls=6 + 1, open_calls=1)
    ]
