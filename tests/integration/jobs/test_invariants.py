"""The invariants hold for every kind of job, and each violation names the rows that cause it.

Covers: app.db.time_limits, app.jobs.filetrans.store, app.jobs.invariants
"""

from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from app.db.database import Database
from app.db.time_limits import StatementTimeoutError, statement_timeout
from app.jobs.filetrans import store
from app.jobs.invariants import INVARIANTS, find_violations, stored_audio
from app.jobs.tables import billing_tables, event, transcript, transcription, upstream_call
from app.kit.ids import new_id
from app.speech.engine import Billed
from app.speech.task_engine import SubmittedTask
from tests.support.job_records import JobRecords, snapshot
from tests.support.scenario import NOW, Scenario, failure, recording

pytestmark = pytest.mark.anyio

_job, _call = transcription.c, upstream_call.c


async def violations(db: Database) -> dict[str, tuple[str, ...]]:
    return {one.invariant: one.examples for one in await db.read(find_violations, 30.0)}


async def heard(db: Database, name: str = "a") -> Scenario:
    """Return a completed transcription with an answered call."""
    scenario = await Scenario.create(db, audio=recording(name, sha256=name * 64))
    job = await scenario.claim()
    await scenario.answered(job, await scenario.call(job))
    await scenario.complete(job)
    return scenario


async def test_no_kind_of_job_violates_an_invariant(db: Database) -> None:
    await heard(db)
    failed = await Scenario.create(db, audio=recording("b", sha256="b" * 64))
    job = await failed.claim()
    await failed.call_failed(job, await failed.call(job), failure())
    await failed.fail(job)
    await failed.retry()
    cancelled = await Scenario.create(db, audio=recording("c", sha256="c" * 64))
    await cancelled.cancel()
    erased = await heard(db, "d")
    await erased.erase()
    running = await Scenario.create(db, audio=recording("e", sha256="e" * 64))
    await running.call(await running.claim())
    assert await violations(db) == {}
    kept = [key.rpartition("/")[2] for _, key in await db.read(stored_audio, 10)]
    assert sorted(kept) == ["a", "b", "c", "e"]


async def billed_failure(db: Database, *, is_task: bool) -> Scenario:
    """Return a transcription whose only call failed and is billed by the provider."""
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    call = await scenario.call(job)
    if is_task:
        await db.write(store.store_task_id, call, SubmittedTask("task-1", "req-1"))
        await scenario.charged(job, call)
    else:
        await scenario.call_failed(job, call, failure(Billed.YES))
    await scenario.fail(job)
    return scenario


@pytest.mark.parametrize("is_task", [False, True], ids=["sync", "filetrans"])
async def test_a_failed_call_that_was_billed_and_settled_violates_nothing(
    db: Database, *, is_task: bool
) -> None:
    scenario = await billed_failure(db, is_task=is_task)
    assert [(call["state"], call["billed"]) for call in await scenario.calls()] == [
        ("failed", "yes")
    ]
    assert [line["kind"] for line in await scenario.lines()] == ["hold", "settle", "release"]
    assert await violations(db) == {}
    assert list(JobRecords(await db.read(snapshot)).violations()) == []


SETTLED_WITHOUT_CAUSE = {
    "failed, not billed": {"state": "failed", "billed": "no"},
    "failed, nothing known of the bill": {"state": "failed", "billed": None},
    "in doubt": {"state": "in_doubt", "billed": "maybe"},
    "in doubt, said to be billed": {"state": "in_doubt", "billed": "yes"},
    "open": {"state": "open", "billed": None, "closed_at": None},
}


@pytest.mark.parametrize("end", SETTLED_WITHOUT_CAUSE)
async def test_any_other_settled_call_is_a_violation(db: Database, end: str) -> None:
    scenario = await billed_failure(db, is_task=False)
    (call,), (_, settle, _) = await scenario.calls(), await scenario.lines()
    planted = sa.update(upstream_call).where(_call.id == call["id"])
    await db.write(lambda tx: tx.execute(planted.values(SETTLED_WITHOUT_CAUSE[end])) and None)
    found = await violations(db)
    assert found["only answered or billed calls are settled"] == (settle["id"],)
    assert any("settles" in one for one in JobRecords(await db.read(snapshot)).violations())


async def test_a_billed_call_without_a_settle_is_a_violation(db: Database) -> None:
    scenario = await billed_failure(db, is_task=False)
    (call,) = await scenario.calls()
    unsettled = {**call, "id": new_id("call"), "attempt": 9}
    await db.write(lambda tx: tx.execute(sa.insert(upstream_call).values(unsettled)) and None)
    assert await violations(db) == {"an answered or billed call is settled": (unsettled["id"],)}
    assert any("settles" in one for one in JobRecords(await db.read(snapshot)).violations())


def _ledger(job: dict[str, Any], **fields: Any) -> sa.Insert:
    """Return the insert of a ledger entry of this job; entries are append-only."""
    plain = {"id": new_id("ldg"), "model": job["model"], "currency": "CNY", "created_at": NOW}
    whose = {
        "project_id": job["project_id"],
        "transcription_id": job["id"],
        "retry_epoch": job["retry_epoch"],
    }
    return sa.insert(billing_tables.ledger_line).values(**plain, **whose, **fields)


PLANTED = {
    "an ended transcription has no open call": lambda _job, call: [
        sa.update(upstream_call).values(state="open", closed_at=None).where(_call.id == call["id"])
    ],
    "an answered or billed call is settled": lambda job, call: [
        sa.insert(upstream_call).values(
            {**call, "id": new_id("call"), "attempt": 9, "transcription_id": job["id"]}
        )
    ],
    "only answered or billed calls are settled": lambda _job, call: [
        sa.update(upstream_call).values(state="failed", billed="no").where(_call.id == call["id"])
    ],
    "the release is the hold less the settled amount": lambda job, call: [
        _ledger(job, kind="hold", nano=7, call_id=call["id"])
    ],
    "a completed transcription has a transcript": lambda _job, _call: [sa.delete(transcript)],
    "a transcript belongs to a completed transcription": lambda job, _call: [
        sa.update(transcription).values(status="cancelled").where(_job.id == job["id"])
    ],
    "an ended transcription has all its events": lambda _job, _call: [
        sa.delete(event).where(event.c.seq == 1)
    ],
}


@pytest.mark.parametrize("invariant", PLANTED)
async def test_a_violation_names_its_rows(db: Database, invariant: str) -> None:
    scenario = await heard(db)
    job, (call,) = await scenario.row(), await scenario.calls()
    statements: Sequence[sa.Executable] = PLANTED[invariant](job, call)
    for statement in statements:
        await db.write(lambda tx, one: tx.execute(one) and None, statement)
    found = await violations(db)
    assert found[invariant]
    (named,) = found[invariant]
    assert named.startswith(("tr_", "call_", "ldg_"))


async def test_an_end_without_a_release_is_a_violation(db: Database) -> None:
    scenario = await Scenario.create(db)
    end = {"status": "cancelled", "completed_at": NOW}
    await db.write(lambda tx: tx.execute(sa.update(transcription).values(**end)) and None)
    assert await violations(db) == {
        "each ended period of a transcription has one release": (scenario.id,)
    }


async def test_a_ledger_entry_of_another_jobs_call_is_a_violation(db: Database) -> None:
    first, second = await heard(db), await heard(db, "b")
    (call,) = await first.calls()
    line = _ledger(await second.row(), kind="adjust", nano=1, call_id=call["id"])
    await db.write(lambda tx: tx.execute(line) and None)
    assert list(await violations(db)) == ["a ledger entry names a call of its own transcription"]


def test_every_invariant_is_violated_by_a_test() -> None:
    others = {
        "each ended period of a transcription has one release",
        "a ledger entry names a call of its own transcription",
    }
    assert PLANTED.keys() | others == INVARIANTS.keys()


async def test_a_slow_statement_is_cancelled(db: Database) -> None:
    query = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) "
        "SELECT count(*) FROM n"
    )

    def slow(tx: sa.Connection) -> Any:
        with statement_timeout(tx, 0.2):
            return tx.scalar(sa.text(query))

    with pytest.raises(StatementTimeoutError, match=r"not finished after 0\.2 s"):
        await db.read(slow)
    assert await db.read(lambda tx: tx.scalar(sa.text("SELECT 1"))) == 1
