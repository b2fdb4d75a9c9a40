"""Deferred runs: the retry timeout runs on, is paused, or is reset.

Covers: app.jobs.store.runs
"""

import pytest

from app.db.database import Database
from app.jobs.store import runs
from app.jobs.store.runs import RetryClock
from tests.support.scenario import NOW, Scenario

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("pauses", "waits"),
    [
        (["runs"], True),
        (["paused"], False),
        (["runs", "paused"], True),
        (["runs", "reset"], False),
        (["reset", "runs"], True),
    ],
)
async def test_deferred_since_runs_pauses_or_resets(
    db: Database, pauses: list[RetryClock], *, waits: bool
) -> None:
    scenario = await Scenario.create(db)
    for pause in pauses:
        job = await scenario.claim()
        await db.write(runs.defer_run, job.run, 0.0, now=NOW, clock=pause)
        await db.write(runs.clear_leases)
    row = await scenario.row()
    assert (row["deferred_since"] is not None) is waits
    assert (row["runs_without_progress"], row["status"]) == (0, "processing")


@pytest.mark.parametrize(("pause", "left"), [("reset", 0), ("runs", 3), ("paused", 3)])
async def test_a_poll_resets_the_runs_without_progress(
    db: Database, pause: RetryClock, left: int
) -> None:
    """Each outage of the database ends a run; in three hours there may be many."""
    scenario = await Scenario.create(db)
    for _ in range(3):
        await scenario.claim()
        await db.write(runs.clear_leases)
    job = await scenario.claim()
    assert job.runs_without_progress == 4
    await db.write(runs.defer_run, job.run, 0.0, now=NOW, clock=pause)
    assert (await scenario.row())["runs_without_progress"] == left
