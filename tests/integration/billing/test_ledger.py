"""Tests of app.billing.ledger.

Covers: app.billing.ledger
"""

from typing import Any

import pytest
import sqlalchemy as sa

from app.billing import ledger
from app.billing.ledger import BilledUsage, JobTotals, LedgerAccount
from app.billing.tables import ledger_line
from app.db.database import Database
from tests.support.scenario import MODEL, NOW, Scenario

pytestmark = pytest.mark.anyio
USED = BilledUsage(millis=1_500, tokens=4, nano=300, estimated=False)


def account_of(scenario: Scenario) -> LedgerAccount:
    return LedgerAccount(scenario.principal.project_id, None, scenario.id, MODEL, "CNY")


async def standing(scenario: Scenario) -> JobTotals:
    return await scenario.db.read(ledger.totals, scenario.id)


async def remaining(scenario: Scenario) -> int:
    return await scenario.db.read(ledger.remaining, account_of(scenario))


async def test_a_hold_is_settled_or_released(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    call = await scenario.call(job)
    held = (await standing(scenario)).held
    await db.write(ledger.settle, account_of(scenario), call, USED, now=NOW)
    assert await remaining(scenario) == held - 300
    await db.write(ledger.release_hold, account_of(scenario), now=NOW)
    assert await standing(scenario) == JobTotals(held, 300, held - 300, 1_500, 4)
    assert await remaining(scenario) == 0


async def test_a_settle_above_the_hold_stands_and_nothing_is_released(db: Database) -> None:
    scenario = await Scenario.create(db)
    call = await scenario.call(await scenario.claim())
    more = BilledUsage(1_000, 0, (await standing(scenario)).held + 5, estimated=False)
    await db.write(ledger.settle, account_of(scenario), call, more, now=NOW)
    await db.write(ledger.release_hold, account_of(scenario), now=NOW)
    after = await standing(scenario)
    assert (after.settled, after.released, await remaining(scenario)) == (more.nano, 0, 0)


async def test_a_call_is_settled_once_and_a_job_released_once(db: Database) -> None:
    scenario = await Scenario.create(db)
    call = await scenario.call(await scenario.claim())
    await db.write(ledger.settle, account_of(scenario), call, USED, now=NOW)
    with pytest.raises(sa.exc.IntegrityError):
        await db.write(ledger.settle, account_of(scenario), call, USED, now=NOW)
    await db.write(ledger.release_hold, account_of(scenario), now=NOW)
    with pytest.raises(sa.exc.IntegrityError):
        await db.write(ledger.release_hold, account_of(scenario), now=NOW)


async def test_a_job_is_held_once_and_each_call_once_more(db: Database) -> None:
    scenario = await Scenario.create(db)
    call = await scenario.call(await scenario.claim())
    with pytest.raises(sa.exc.IntegrityError):
        await db.write(ledger.hold, account_of(scenario), 1, now=NOW)
    await db.write(ledger.hold, account_of(scenario), 1, now=NOW, call_id=call)
    with pytest.raises(sa.exc.IntegrityError):
        await db.write(ledger.hold, account_of(scenario), 1, now=NOW, call_id=call)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "gift"},
        {"kind": "hold", "nano": -1},
        {"kind": "settle", "call_id": None},
        {"kind": "saved", "used_ms": -1},
    ],
)
async def test_the_database_rejects_inconsistent_entries(
    db: Database, wrong: dict[str, Any]
) -> None:
    scenario = await Scenario.create(db)
    line = {
        "id": "ldg_1",
        "project_id": scenario.principal.project_id,
        "transcription_id": scenario.id,
        "model": MODEL,
        "currency": "CNY",
        "nano": 0,
        "created_at": NOW,
    }
    with pytest.raises(sa.exc.IntegrityError):
        await db.write(lambda tx: tx.execute(sa.insert(ledger_line).values(**line | wrong)))


async def test_an_adjustment_counts_as_settled_and_may_be_negative(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    await scenario.answered(job, await scenario.call(job))
    settled = (await standing(scenario)).settled

    def adjust(tx: sa.Connection) -> None:
        ledger._add_line(tx, account_of(scenario), "adjust", -10, NOW)

    await db.write(adjust)
    assert (await standing(scenario)).settled == settled - 10


async def test_jobs_do_not_share_their_sums(db: Database) -> None:
    one, other = await Scenario.create(db), await Scenario.create(db)
    job = await one.claim()
    await one.answered(job, await one.call(job))
    sums = await db.read(ledger.totals_by_job, [one.id, other.id, "tr_none"])
    assert sums[one.id].settled > 0
    assert sums[other.id].settled == 0
    assert "tr_none" not in sums
