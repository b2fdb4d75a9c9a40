"""Runs: claims, leases, and the fence that refuses writes of stale runs.

Covers: app.jobs.execution.lease, app.jobs.store.job, app.jobs.store.runs
"""

import asyncio
from dataclasses import replace

import pytest

from app.db.database import Database
from app.jobs.store import runs
from app.jobs.store.job import Job
from app.jobs.store.runs import StaleRun
from app.kit.clock import utc_now
from tests.support.scenario import NOW, Scenario, answer, failure, part_span, recording

pytestmark = pytest.mark.anyio


async def test_a_held_job_is_not_claimed_until_its_lease_ends(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    assert job.run.epoch == 1
    assert await scenario.try_claim(lease_seconds=7) is None
    assert (await scenario.row())["run_epoch"] == 1


async def test_of_concurrent_claims_one_succeeds(db: Database) -> None:
    scenario = await Scenario.create(db)
    results = await asyncio.gather(*(scenario.try_claim() for _ in range(8)))
    assert sum(isinstance(result, Job) for result in results) == 1


async def test_a_job_created_as_claimed_is_processing(db: Database) -> None:
    scenario = await Scenario.create(db, lease_seconds=60)
    assert scenario.submitted.claimed is not None
    assert await scenario.try_claim() is None
    await scenario.complete(scenario.submitted.claimed)
    assert (await scenario.row())["status"] == "completed"


async def test_a_job_is_claimed_after_its_lease_and_the_stale_run_writes_nothing(
    db: Database,
) -> None:
    scenario = await Scenario.create(db)
    old = await scenario.claim()
    call = await scenario.call(old)
    await scenario.crash()
    new = await scenario.claim()
    assert new.run.epoch == 2
    before = (
        await scenario.row(),
        await scenario.lines(),
        await scenario.events(),
        await scenario.calls(),
    )
    for operation in (
        scenario.call(old, part_span(1)),
        scenario.answered(old, call),
        scenario.call_failed(old, call, failure()),
        scenario.complete(old),
        scenario.fail(old),
        db.write(runs.renew, old.run),
    ):
        with pytest.raises(StaleRun):
            await operation
    await db.write(runs.release_run, old.run)
    after = (
        await scenario.row(),
        await scenario.lines(),
        await scenario.events(),
        await scenario.calls(),
    )
    assert after == before
    await scenario.complete(new)


async def test_a_run_may_write_after_its_lease_until_another_claim(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    await scenario.crash()
    await scenario.complete(job)
    assert (await scenario.row())["status"] == "completed"


async def test_a_renewed_lease_prevents_other_claims(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    await scenario.crash()
    await db.write(runs.renew, job.run)
    assert await scenario.try_claim() is None


async def test_every_write_of_a_run_renews_its_lease(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    await scenario.crash()
    await scenario.call(job)
    assert await scenario.try_claim() is None


async def test_a_released_job_can_be_claimed_at_once(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    await db.write(runs.release_run, job.run)
    again = await scenario.claim()
    assert again.run.epoch == 2
    assert again.runs_without_progress == 1  # a released run is not counted
    with pytest.raises(StaleRun):
        await scenario.complete(job)


async def test_a_deferred_job_is_not_claimed_before_its_delay_ends(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    began = utc_now()
    await db.write(runs.defer_run, job.run, 60.0, now=began)
    assert await scenario.try_claim() is None
    assert await db.read(runs.find_stalled, after="", limit=9) == []
    await scenario.crash()
    again = await scenario.claim()
    assert (again.run.epoch, again.runs_without_progress) == (2, 1)  # a deferred run is not counted
    # The earlier run is stale.
    await db.write(runs.defer_run, job.run, 0.0, now=utc_now())
    assert await scenario.try_claim() is None
    await db.write(runs.defer_run, again.run, 0.01, now=utc_now())
    async with asyncio.timeout(5):
        while (third := await scenario.try_claim()) is None:
            await asyncio.sleep(0.01)
    assert third.run.epoch == 3
    assert third.deferred_since == began  # the retry timeout does not restart


async def test_runs_without_progress_are_counted(db: Database) -> None:
    scenario = await Scenario.create(db)
    for count in (1, 2, 3):
        job = await scenario.claim()
        assert job.runs_without_progress == count
        await scenario.crash()
    job = await scenario.claim()
    await scenario.answered(job, await scenario.call(job))
    await scenario.crash()
    assert (await scenario.claim()).runs_without_progress == 1


@pytest.mark.parametrize("ending", ["complete", "fail", "erase"])
async def test_an_ended_job_is_not_claimed(db: Database, ending: str) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    await (scenario.erase() if ending == "erase" else getattr(scenario, ending)(job))
    assert await scenario.try_claim() is None
    assert await db.read(runs.find_stalled, after="", limit=9) == []


async def test_a_job_ends_once(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    await scenario.complete(job)
    for ending in (scenario.complete(job), scenario.fail(job)):
        with pytest.raises(StaleRun):
            await ending
    assert [line["kind"] for line in await scenario.lines()] == ["hold", "release"]


async def test_a_later_run_loads_the_finished_parts(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    await scenario.answered(job, await scenario.call(job), heard=answer(text="first"))
    await scenario.call(job, part_span(1))
    await scenario.crash()
    parts = (await scenario.claim()).parts
    assert [(part.index, part.start_ms, part.state) for part in parts] == [
        (0, 0, "done"),
        (1, 2_000, "pending"),
    ]
    assert parts[0].result is not None
    assert parts[0].result["text"] == "first"


async def test_silent_parts_are_stored_with_the_next_call(db: Database) -> None:
    scenario = await Scenario.create(db)
    silent = replace(part_span(0), speech_ms=0, sha256=None)
    await scenario.call(await scenario.claim(), part_span(1), silent=[silent])
    assert [part["state"] for part in await scenario.parts()] == ["silent", "pending"]


async def test_events_are_numbered_without_a_gap(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    for index in range(3):
        await scenario.answered(job, await scenario.call(job, part_span(index)), part_span(index))
    await scenario.complete(job)
    events = await scenario.events()
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5]
    assert [event["type"] for event in events] == ["created", *["progress"] * 3, "completed"]
    assert (await scenario.row())["event_count"] == 5


async def test_stalled_jobs_are_found_oldest_first(db: Database) -> None:
    scenarios = [
        await Scenario.create(db, audio=recording(f"r{n}", sha256=f"{n:064x}")) for n in range(4)
    ]
    held, crashed = scenarios[1], scenarios[2]
    await held.claim()
    await crashed.claim()
    await crashed.crash()
    expected = [(scenarios[0].id, 0), (crashed.id, 1), (scenarios[3].id, 0)]
    found = await db.read(runs.find_stalled, after="", limit=9)
    assert [(one.job_id, one.epoch) for one in found] == expected
    assert await db.read(runs.find_stalled, after="", limit=2) == found[:2]
    assert await db.read(runs.find_stalled, after=crashed.id, limit=2) == found[2:]


async def test_clear_leases(db: Database) -> None:
    scenario = await Scenario.create(db)
    await scenario.claim()
    assert await db.write(runs.clear_leases) == 1
    assert await db.write(runs.clear_leases) == 0
    assert (await scenario.claim()).run.epoch == 2


async def test_started_at_is_that_of_the_first_run(db: Database) -> None:
    scenario = await Scenario.create(db)
    assert (await scenario.row())["started_at"] is None
    await scenario.claim()
    started = (await scenario.row())["started_at"]
    assert started > NOW
    await scenario.crash()
    await scenario.claim()
    assert (await scenario.row())["started_at"] == started
