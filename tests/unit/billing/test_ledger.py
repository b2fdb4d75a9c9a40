from typing import Any

import pytest
import sqlalchemy as sa

from app.billing import ledger
from app.billing.ledger import Account, JobTotals, Used
from app.billing.tables import ledger_line
from app.db.database import Database
from tests.support.story import MODEL, NOW, Story

pytestmark = pytest.mark.anyio
USED = Used(millis=1_500, tokens=4, nano=300, estimated=False)


def account_of(story: Story) -> Account:
    return Account(story.principal.project_id, None, story.id, MODEL, "CNY")


async def standing(story: Story) -> JobTotals:
    return await story.db.read(ledger.totals, story.id)


async def remaining(story: Story) -> int:
    return await story.db.read(ledger.remaining, account_of(story))


async def test_what_is_held_is_used_or_given_back(db: Database) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    call = await story.call(job)
    held = (await standing(story)).held
    await db.write(ledger.settle, account_of(story), call, USED, now=NOW)
    assert await remaining(story) == held - 300
    await db.write(ledger.release, account_of(story), now=NOW)
    assert await standing(story) == JobTotals(held, 300, held - 300, 1_500, 4)
    assert await remaining(story) == 0


async def test_a_settle_above_the_hold_stands_and_nothing_is_released(db: Database) -> None:
    story = await Story.begun(db)
    call = await story.call(await story.take_up())
    more = Used(1_000, 0, (await standing(story)).held + 5, estimated=False)
    await db.write(ledger.settle, account_of(story), call, more, now=NOW)
    await db.write(ledger.release, account_of(story), now=NOW)
    after = await standing(story)
    assert (after.settled, after.released, await remaining(story)) == (more.nano, 0, 0)


async def test_a_call_is_settled_once_and_a_job_released_once(db: Database) -> None:
    story = await Story.begun(db)
    call = await story.call(await story.take_up())
    await db.write(ledger.settle, account_of(story), call, USED, now=NOW)
    with pytest.raises(sa.exc.IntegrityError):
        await db.write(ledger.settle, account_of(story), call, USED, now=NOW)
    await db.write(ledger.release, account_of(story), now=NOW)
    with pytest.raises(sa.exc.IntegrityError):
        await db.write(ledger.release, account_of(story), now=NOW)


async def test_a_job_is_held_once_and_each_call_once_more(db: Database) -> None:
    story = await Story.begun(db)
    call = await story.call(await story.take_up())
    with pytest.raises(sa.exc.IntegrityError):
        await db.write(ledger.hold, account_of(story), 1, now=NOW)
    await db.write(ledger.hold, account_of(story), 1, now=NOW, call_id=call)
    with pytest.raises(sa.exc.IntegrityError):
        await db.write(ledger.hold, account_of(story), 1, now=NOW, call_id=call)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "gift"},
        {"kind": "hold", "nano": -1},
        {"kind": "settle", "call_id": None},
        {"kind": "saved", "used_ms": -1},
    ],
)
async def test_the_database_refuses_lines_that_make_no_sense(
    db: Database, wrong: dict[str, Any]
) -> None:
    story = await Story.begun(db)
    line = {
        "id": "ldg_1",
        "project_id": story.principal.project_id,
        "transcription_id": story.id,
        "model": MODEL,
        "currency": "CNY",
        "nano": 0,
        "created_at": NOW,
    }
    with pytest.raises(sa.exc.IntegrityError):
        await db.write(lambda tx: tx.execute(sa.insert(ledger_line).values(**line | wrong)))


async def test_an_adjustment_counts_as_settled_and_may_be_negative(db: Database) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    await story.answered(job, await story.call(job))
    settled = (await standing(story)).settled

    def adjust(tx: sa.Connection) -> None:
        ledger._write(tx, account_of(story), "adjust", -10, NOW)

    await db.write(adjust)
    assert (await standing(story)).settled == settled - 10


async def test_jobs_do_not_share_their_sums(db: Database) -> None:
    one, other = await Story.begun(db), await Story.begun(db)
    job = await one.take_up()
    await one.answered(job, await one.call(job))
    sums = await db.read(ledger.totals_by_job, [one.id, other.id, "tr_none"])
    assert sums[one.id].settled > 0
    assert sums[other.id].settled == 0
    assert "tr_none" not in sums
