"""Calls that are tasks: they are kept through retries of their job and are held for once.

Covers: app.jobs.filetrans.run, app.jobs.filetrans.store, app.jobs.store.calls
"""

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
from tests.support.job_records import JobRecords, snapshot
from tests.support.scenario import NANO_PER_SECOND, Scenario, part_span

pytestmark = pytest.mark.anyio
BOUND = 2 * NANO_PER_SECOND
LATE = EngineError(ErrorKind.TIMEOUT, "late", billed=Billed.MAYBE)
FORGOTTEN = EngineError(ErrorKind.MALFORMED, "unknown", billed=Billed.MAYBE)


async def submitted(db: Database) -> tuple[Scenario, Job, str]:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    call = await scenario.call(job)
    await db.write(store.store_task_id, call, SubmittedTask("task-1", "req-1"))
    return scenario, job, call


async def claimed(scenario: Scenario) -> Job:
    """Claim the job as a worker does: a task with a known id stays open."""

    def claim(tx: sa.Connection) -> Job:
        job = runs.claim(tx, scenario.id, lease_seconds=60, now=scenario.later())
        assert job is not None
        calls.close_orphaned(tx, job.id, remote=True, now=scenario.now, but_tasks=True)
        return job

    return await scenario.db.write(claim)


@pytest.mark.parametrize("end", ["cancel", "fail", "late"])
async def test_a_retry_reopens_a_task_in_doubt(db: Database, end: str) -> None:
    scenario, job, call = await submitted(db)
    if end == "cancel":
        await scenario.cancel()
    else:
        if end == "late":
            await scenario.call_failed(job, call, LATE)
        await scenario.fail(job)
    assert [row["state"] for row in await scenario.calls()] == ["in_doubt"]
    assert await scenario.retry()
    again = await claimed(scenario)
    task = await db.read(store.find_open_task, again)
    assert task is not None
    assert (task.call_id, task.task_id) == (call, "task-1")
    assert task.is_before_retry
    (held,) = [
        line for line in await scenario.lines() if line["retry_epoch"] and line["kind"] == "hold"
    ]
    assert (task.opened_at, task.awaited_since) == (
        (await scenario.calls())[0]["opened_at"],
        held["created_at"],
    )
    # The hold of the retry covers this call only.
    (row,) = await scenario.calls()
    assert (row["state"], row["max_cost_nano"]) == ("open", BOUND)
    assert row["run_epoch"] > again.account.retry_epoch
    left = await db.read(ledger.remaining, again.account) - row["max_cost_nano"]
    assert left == held["nano"] - BOUND
    await scenario.answered(again, call)
    await scenario.complete(again)
    assert await db.read(ledger.remaining, again.account) == 0
    assert list(JobRecords(await db.read(snapshot)).violations()) == []


async def test_the_hold_of_a_retry_covers_its_task(db: Database) -> None:
    """The call took a further hold for itself, which belongs to the time before the retry."""
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    long = part_span(seconds=30)
    call = await scenario.call(job, long)
    await db.write(store.store_task_id, call, SubmittedTask("task-1", "req-1"))
    await scenario.cancel()
    await scenario.retry()
    holds = [line["nano"] for line in await scenario.lines() if line["retry_epoch"]]
    assert holds == [30 * NANO_PER_SECOND]


async def test_a_task_that_the_provider_does_not_know_stays_in_doubt(db: Database) -> None:
    scenario, job, call = await submitted(db)
    await scenario.call_failed(job, call, FORGOTTEN)
    await scenario.fail(job)
    await scenario.retry()
    assert await db.read(store.find_open_task, await claimed(scenario)) is None
    assert [row["state"] for row in await scenario.calls()] == ["in_doubt"]


async def test_a_task_that_is_settled_by_a_bill_is_not_reopened(db: Database) -> None:
    scenario, job, call = await submitted(db)
    await scenario.cancel()

    def adjust(tx: sa.Connection) -> None:
        ledger.adjust(tx, job.account, call, 7, used_ms=1, now=scenario.now)

    await db.write(adjust)
    await scenario.retry()
    assert await db.read(store.find_open_task, await claimed(scenario)) is None


async def test_a_cancelled_task_is_free_of_charge(db: Database) -> None:
    for state in ("in_doubt", "open"):
        scenario, _, call = await submitted(db)
        await scenario.cancel()
        if state == "open":
            await scenario.retry()
        assert [row["state"] for row in await scenario.calls()] == [state]
        await db.write(store.close_cancelled, call, now=scenario.now)
        (row,) = await scenario.calls()
        assert (row["state"], row["billed"], row["error_kind"]) == ("failed", "no", "cancelled")


async def test_a_cancel_leaves_tasks_of_later_runs_alone(db: Database) -> None:
    scenario, _, call = await submitted(db)
    cost = await scenario.cancel()
    assert cost is not None
    (task,) = await db.read(store.find_active, scenario.id, cost.epoch)
    assert task.call_id == call
    await scenario.retry()
    assert await db.read(store.find_active, scenario.id, cost.epoch) == []
    assert len(await db.read(store.find_active, scenario.id)) == 1


async def test_a_task_of_a_disabled_engine_times_out_and_a_retry_waits_again(
    db: Database,
) -> None:
    scenario, _, _ = await submitted(db)
    await scenario.crash()
    settings = JobSettings(task_timeout_seconds=100)

    def work() -> TaskRunner:
        return TaskRunner(
            db,
            {},
            None,
            settings=settings,
            max_seconds=60,
            clock=lambda: scenario.now,  # type: ignore[arg-type]
        )

    with pytest.raises(Deferred) as deferred:
        await work().run(await claimed(scenario))
    assert (deferred.value.clock, deferred.value.reason) == ("reset", "engine_disabled")
    await scenario.crash()
    scenario.now += timedelta(seconds=100)
    job = await claimed(scenario)
    with pytest.raises(EngineUnavailable, match="no longer switched on") as caught:
        await work().run(job)
    assert [(row["state"], row["error_kind"]) for row in await scenario.calls()] == [
        ("in_doubt", "timeout")
    ]
    await scenario.fail(job, caught.value)
    await scenario.retry()
    with pytest.raises(Deferred) as deferred:
        await work().run(await claimed(scenario))
    assert (deferred.value.clock, deferred.value.reason) == ("reset", "engine_disabled")
