"""Tasks through the lives of a job: what is known stays known, and is held for once."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from app.billing import ledger
from app.db.database import Database
from app.errors import EngineUnavailable
from app.jobs.filetrans import store
from app.jobs.filetrans.run import TaskRunner
from app.jobs.store import calls, runs
from app.jobs.store.job import Job
from app.jobs.store.runs import Deferred
from app.settings import JobSettings
from app.speech.engine import Billed, EngineError, ErrorKind
from app.speech.task_engine import SubmittedTask
from tests.support.books import Books, snapshot
from tests.support.story import NANO_PER_SECOND, Story, stretch

pytestmark = pytest.mark.anyio
BOUND = 2 * NANO_PER_SECOND
LATE = EngineError(ErrorKind.TIMEOUT, "late", billed=Billed.MAYBE)
FORGOTTEN = EngineError(ErrorKind.MALFORMED, "unknown", billed=Billed.MAYBE)


async def submitted(db: Database) -> tuple[Story, Job, str]:
    story = await Story.begun(db)
    job = await story.take_up()
    call = await story.call(job)
    await db.write(store.store_task_id, call, SubmittedTask("task-1", "req-1"))
    return story, job, call


async def taken_up(story: Story) -> Job:
    """Take the job up as a worker does: a task whose id is known stays open."""

    def claim(tx: sa.Connection) -> Job:
        job = runs.claim(tx, story.id, lease_seconds=60, now=story.later())
        assert job is not None
        calls.close_orphaned(tx, job.id, remote=True, now=story.now, but_tasks=True)
        return job

    return await story.db.write(claim)


@pytest.mark.parametrize("end", ["cancel", "fail", "late"])
async def test_a_known_task_is_under_way_again_in_the_next_life(db: Database, end: str) -> None:
    story, job, call = await submitted(db)
    if end == "cancel":
        await story.cancel()
    else:
        if end == "late":
            await story.call_failed(job, call, LATE)
        await story.fail(job)
    assert [row["state"] for row in await story.calls()] == ["in_doubt"]
    assert await story.retry()
    again = await taken_up(story)
    task = await db.read(store.find_open_task, again)
    assert task is not None
    assert (task.call_id, task.task_id) == (call, "task-1")
    assert task.is_before_retry
    (held,) = [
        line for line in await story.lines() if line["retry_epoch"] and line["kind"] == "hold"
    ]
    assert (task.opened_at, task.awaited_since) == (
        (await story.calls())[0]["opened_at"],
        held["created_at"],
    )
    # It is what the hold of this life is for, and nobody else's.
    left = await db.read(calls._uncommitted_hold, again)
    assert left == held["nano"] - BOUND
    await story.answered(again, call)
    await story.complete(again)
    assert await db.read(ledger.remaining, again.account) == 0
    assert list(Books(await db.read(snapshot)).broken_laws()) == []


async def test_the_hold_of_a_life_covers_its_task(db: Database) -> None:
    """A first hold that was too small had a further one, which is of the life before."""
    story = await Story.begun(db)
    job = await story.take_up()
    long = stretch(seconds=30)
    call = await story.call(job, long)
    await db.write(store.store_task_id, call, SubmittedTask("task-1", "req-1"))
    await story.cancel()
    await story.retry()
    holds = [line["nano"] for line in await story.lines() if line["retry_epoch"]]
    assert holds == [30 * NANO_PER_SECOND]


async def test_one_that_the_upstream_forgot_is_left_in_doubt(db: Database) -> None:
    story, job, call = await submitted(db)
    await story.call_failed(job, call, FORGOTTEN)
    await story.fail(job)
    await story.retry()
    assert await db.read(store.find_open_task, await taken_up(story)) is None
    assert [row["state"] for row in await story.calls()] == ["in_doubt"]


async def test_one_that_the_bill_has_settled_is_left(db: Database) -> None:
    story, job, call = await submitted(db)
    await story.cancel()

    def adjust(tx: sa.Connection) -> None:
        ledger.adjust(tx, job.account, call, 7, used_ms=1, now=story.now)

    await db.write(adjust)
    await story.retry()
    assert await db.read(store.find_open_task, await taken_up(story)) is None


async def test_one_that_was_called_off_is_free_in_either_state(db: Database) -> None:
    for state in ("in_doubt", "open"):
        story, _, call = await submitted(db)
        await story.cancel()
        if state == "open":
            await story.retry()
        assert [row["state"] for row in await story.calls()] == [state]
        await db.write(store.note_cancelled, call, now=story.now)
        (row,) = await story.calls()
        assert (row["state"], row["billed"], row["error_kind"]) == ("failed", "no", "cancelled")


async def test_calling_off_leaves_a_later_life_alone(db: Database) -> None:
    story, _, call = await submitted(db)
    cost = await story.cancel()
    assert cost is not None
    (task,) = await db.read(store.find_active, story.id, cost.epoch)
    assert task.call_id == call
    await story.retry()
    assert await db.read(store.find_active, story.id, cost.epoch) == []
    assert len(await db.read(store.find_active, story.id)) == 1


async def test_a_task_whose_engine_is_off_has_a_deadline_and_each_life_its_own(
    db: Database,
) -> None:
    story, _, _ = await submitted(db)
    await story.crash()
    settings = JobSettings(task_timeout_seconds=100)

    def work() -> TaskRunner:
        return TaskRunner(
            db,
            {},
            None,
            settings=settings,
            max_seconds=60,
            clock=lambda: story.now,  # type: ignore[arg-type]
        )

    with pytest.raises(Deferred) as deferred:
        await work().do(await taken_up(story))
    assert deferred.value.clock == "reset"
    await story.crash()
    story.now += timedelta(seconds=100)
    job = await taken_up(story)
    with pytest.raises(EngineUnavailable, match="no longer switched on") as caught:
        await work().do(job)
    assert [(row["state"], row["error_kind"]) for row in await story.calls()] == [
        ("in_doubt", "timeout")
    ]
    await story.fail(job, caught.value)
    await story.retry()
    with pytest.raises(Deferred) as deferred:
        await work().do(await taken_up(story))
    assert deferred.value.clock == "reset"
