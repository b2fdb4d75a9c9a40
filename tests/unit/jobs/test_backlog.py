"""The jobs that come before a new one, on both databases."""

from typing import Any

import pytest

from app.db.database import Database
from app.jobs.store import backlog
from app.jobs.store.backlog import JobAhead, jobs_ahead
from tests.support.story import NOW, Story, wish

pytestmark = pytest.mark.anyio


async def ahead(db: Database, **asked: Any) -> list[JobAhead]:
    return await db.read(jobs_ahead, now=NOW, **asked)


async def test_what_runs_comes_before_the_most_urgent_one(db: Database) -> None:
    running = await Story.begun(db, lease_seconds=3600)
    await Story.begun(db)
    await Story.begun(db, wanted=wish(priority=50))
    assert (await running.row())["status"] == "processing"
    assert [one.is_running for one in await ahead(db)] == [True, False, False]
    assert [one.is_running for one in await ahead(db, priority=50)] == [True, False]
    assert [one.is_running for one in await ahead(db, priority=100)] == [True]


async def test_tasks_take_nobodys_turn_and_hide_nobody_who_does(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = {**wish().plan, "kind": "filetrans"}
    for _ in range(3):
        await Story.begun(db, wanted=wish(priority=9, plan=task))
    await Story.begun(db)
    monkeypatch.setattr(backlog, "_AHEAD", backlog._AHEAD.limit(2))
    assert [one.calls for one in await ahead(db)] == [1]
