"""Runs and their leases: who works on a job, and why nobody else's writes count."""

import asyncio
from dataclasses import replace

import pytest

from app.db.database import Database
from app.jobs.store import runs
from app.jobs.store.job import Job
from app.jobs.store.runs import StaleRun
from app.kit.clock import utc_now
from tests.support.story import NOW, Story, answer, failure, recording, stretch

pytestmark = pytest.mark.anyio


async def test_a_second_worker_waits_as_long_as_a_lease_lasts(db: Database) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    assert job.run.epoch == 1
    assert await story.try_to_take_up(lease_seconds=7) is None
    assert (await story.row())["run_epoch"] == 1


async def test_of_many_workers_at_once_one_begins(db: Database) -> None:
    story = await Story.begun(db)
    results = await asyncio.gather(*(story.try_to_take_up() for _ in range(8)))
    assert sum(isinstance(result, Job) for result in results) == 1


async def test_a_job_submitted_as_claimed_is_under_way_already(db: Database) -> None:
    story = await Story.begun(db, lease_seconds=60)
    assert story.submitted.claimed is not None
    assert await story.try_to_take_up() is None
    await story.complete(story.submitted.claimed)
    assert (await story.row())["status"] == "completed"


async def test_an_ended_lease_may_be_taken_over_and_the_old_run_writes_nothing(
    db: Database,
) -> None:
    story = await Story.begun(db)
    old = await story.take_up()
    call = await story.call(old)
    await story.crash()
    new = await story.take_up()
    assert new.run.epoch == 2
    before = await story.row(), await story.lines(), await story.events(), await story.calls()
    for deed in (
        story.call(old, stretch(1)),
        story.answered(old, call),
        story.call_failed(old, call, failure()),
        story.complete(old),
        story.fail(old),
        db.write(runs.renew, old.run),
    ):
        with pytest.raises(StaleRun):
            await deed
    await db.write(runs.release, old.run)
    after = await story.row(), await story.lines(), await story.events(), await story.calls()
    assert after == before
    await story.complete(new)


async def test_a_lease_that_ended_is_still_held_until_somebody_takes_over(db: Database) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    await story.crash()
    await story.complete(job)
    assert (await story.row())["status"] == "completed"


async def test_a_renewed_lease_keeps_others_out(db: Database) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    await story.crash()
    await db.write(runs.renew, job.run)
    assert await story.try_to_take_up() is None


async def test_every_write_of_a_run_renews_its_lease(db: Database) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    await story.crash()
    await story.call(job)
    assert await story.try_to_take_up() is None


async def test_a_job_handed_back_may_be_taken_up_at_once(db: Database) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    await db.write(runs.release, job.run)
    again = await story.take_up()
    assert again.run.epoch == 2
    assert again.runs_without_progress == 1  # being asked to stop is not a job's fault
    with pytest.raises(StaleRun):
        await story.complete(job)


async def test_a_job_put_off_is_taken_up_by_nobody_before_its_time(db: Database) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    began = utc_now()
    await db.write(runs.defer, job.run, 60.0, now=began)
    assert await story.try_to_take_up() is None
    assert await db.read(runs.find_stalled, after="", limit=9) == []
    await story.crash()
    again = await story.take_up()
    assert (again.run.epoch, again.runs_without_progress) == (2, 1)  # to wait is not a job's fault
    # The run before holds nothing any more.
    await db.write(runs.defer, job.run, 0.0, now=utc_now())
    assert await story.try_to_take_up() is None
    await db.write(runs.defer, again.run, 0.01, now=utc_now())
    async with asyncio.timeout(5):
        while (third := await story.try_to_take_up()) is None:
            await asyncio.sleep(0.01)
    assert third.run.epoch == 3
    assert third.deferred_since == began  # the patience of a job does not begin anew


async def test_runs_without_a_finished_part_are_counted(db: Database) -> None:
    story = await Story.begun(db)
    for count in (1, 2, 3):
        job = await story.take_up()
        assert job.runs_without_progress == count
        await story.crash()
    job = await story.take_up()
    await story.answered(job, await story.call(job))
    await story.crash()
    assert (await story.take_up()).runs_without_progress == 1


@pytest.mark.parametrize("ending", ["complete", "fail", "erase"])
async def test_an_ended_job_is_not_taken_up_again(db: Database, ending: str) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    await (story.erase() if ending == "erase" else getattr(story, ending)(job))
    assert await story.try_to_take_up() is None
    assert await db.read(runs.find_stalled, after="", limit=9) == []


async def test_a_job_ends_once(db: Database) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    await story.complete(job)
    for ending in (story.complete(job), story.fail(job)):
        with pytest.raises(StaleRun):
            await ending
    assert [line["kind"] for line in await story.lines()] == ["hold", "release"]


async def test_a_later_run_finds_what_an_earlier_one_finished(db: Database) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    await story.answered(job, await story.call(job), heard=answer(text="first"))
    await story.call(job, stretch(1))
    await story.crash()
    parts = (await story.take_up()).parts
    assert [(part.index, part.start_ms, part.state) for part in parts] == [
        (0, 0, "done"),
        (1, 2_000, "pending"),
    ]
    assert parts[0].result is not None
    assert parts[0].result["text"] == "first"


async def test_silent_stretches_are_kept_with_the_next_call(db: Database) -> None:
    story = await Story.begun(db)
    silent = replace(stretch(0), speech_ms=0, sha256=None)
    await story.call(await story.take_up(), stretch(1), silent=[silent])
    assert [part["state"] for part in await story.parts()] == ["silent", "pending"]


async def test_events_are_numbered_without_a_gap(db: Database) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    for index in range(3):
        await story.answered(job, await story.call(job, stretch(index)), stretch(index))
    await story.complete(job)
    events = await story.events()
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5]
    assert [event["type"] for event in events] == ["created", *["progress"] * 3, "completed"]
    assert (await story.row())["event_count"] == 5


async def test_the_forsaken_are_those_nobody_works_on_oldest_first(db: Database) -> None:
    stories = [
        await Story.begun(db, audio=recording(f"r{n}", sha256=f"{n:064x}")) for n in range(4)
    ]
    held, crashed = stories[1], stories[2]
    await held.take_up()
    await crashed.take_up()
    await crashed.crash()
    expected = [(stories[0].id, 0), (crashed.id, 1), (stories[3].id, 0)]
    found = await db.read(runs.find_stalled, after="", limit=9)
    assert [(one.job_id, one.epoch) for one in found] == expected
    assert await db.read(runs.find_stalled, after="", limit=2) == found[:2]
    assert await db.read(runs.find_stalled, after=crashed.id, limit=2) == found[2:]


async def test_leases_can_be_cleared_where_no_other_process_lives(db: Database) -> None:
    story = await Story.begun(db)
    await story.take_up()
    assert await db.write(runs.clear_leases) == 1
    assert await db.write(runs.clear_leases) == 0
    assert (await story.take_up()).run.epoch == 2


async def test_the_first_moment_of_work_stays_as_it_was(db: Database) -> None:
    story = await Story.begun(db)
    assert (await story.row())["started_at"] is None
    await story.take_up()
    started = (await story.row())["started_at"]
    assert started > NOW
    await story.crash()
    await story.take_up()
    assert (await story.row())["started_at"] == started
