from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from app.access.keys import create_key
from app.access.principal import ALL_SCOPES
from app.billing import ledger
from app.billing.ledger import Account, Used
from app.billing.usage import By, Period, sums
from app.db.database import Database
from tests.support.story import NOW, Story

pytestmark = pytest.mark.anyio
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
YEAR = Period(MIDNIGHT - timedelta(days=300), MIDNIGHT + timedelta(days=60))


async def used(
    story: Story,
    *,
    at: datetime,
    nano: int = 100,
    model: str = "m",
    key_id: str | None = None,
    currency: str = "CNY",
) -> None:
    """Let the story's job use a second then, through a call of its own."""
    calls = len(await story.calls())
    job = await story.take_up() if calls == 0 else story.claimed[0]
    story.claimed.append(job)
    call = await story.call(job)
    account = Account(story.principal.project_id, key_id, story.id, model, currency)
    await story.db.write(
        ledger.settle, account, call, Used(1_000, 2, nano, estimated=False), now=at
    )


async def told(story: Story, *by: By, period: Period = YEAR) -> list[tuple[object, ...]]:
    rows = await story.db.read(
        sums, project_id=story.principal.project_id, period=period, by=by or ["day"]
    )
    return [(*row.group, row.transcriptions, row.used_ms, row.nano) for row in rows]


async def test_days_are_days_of_utc(db: Database) -> None:
    story = await Story.begun(db)
    await used(story, at=MIDNIGHT - timedelta(microseconds=1))
    await used(story, at=MIDNIGHT)
    await used(story, at=MIDNIGHT + timedelta(hours=23, minutes=59))
    assert await told(story) == [("2026-11-19", 1, 1_000, 100), ("2026-11-20", 1, 2_000, 200)]


async def test_a_period_includes_its_first_moment_and_not_its_last(db: Database) -> None:
    story = await Story.begun(db)
    await used(story, at=MIDNIGHT)
    for since, until, seen in ((0, 1, True), (-1, 0, False), (1, 2, False)):
        hour = timedelta(hours=1)
        period = Period(MIDNIGHT + since * hour, MIDNIGHT + until * hour)
        assert bool(await told(story, period=period)) is seen


async def test_sums_by_model_key_and_project(db: Database) -> None:
    story, other = await Story.begun(db), await Story.begun(db)

    def add_key(tx: sa.Connection) -> str:
        return create_key(
            tx,
            project_id=story.principal.project_id,
            name="k",
            scopes=ALL_SCOPES,
            pepper=b"p",
            now=NOW,
        ).id

    key = await db.write(add_key)
    await used(story, at=MIDNIGHT, model="a", nano=1)
    await used(story, at=MIDNIGHT, model="b", nano=10, key_id=key)
    await used(other, at=MIDNIGHT, model="b", nano=100)
    project = story.principal.project_id
    assert await told(story, "model") == [("a", 1, 1_000, 1), ("b", 2, 2_000, 110)]
    assert await told(story, "project") == [(project, 2, 3_000, 111)]
    assert sorted(await told(story, "key"), key=str) == [
        (key, 1, 1_000, 10),
        (None, 2, 2_000, 101),
    ]
    assert await told(story, "day", "model") == [
        ("2026-11-20", "a", 1, 1_000, 1),
        ("2026-11-20", "b", 2, 2_000, 110),
    ]


async def test_currencies_are_never_added_up(db: Database) -> None:
    story = await Story.begun(db)
    await used(story, at=MIDNIGHT, currency="CNY", nano=1)
    await used(story, at=MIDNIGHT, currency="USD", nano=10)
    assert await told(story) == [("2026-11-20", 1, 1_000, 1), ("2026-11-20", 1, 1_000, 10)]


async def test_holds_are_no_costs_and_another_project_is_not_seen(db: Database) -> None:
    story = await Story.begun(db)
    stranger = await Story.begun(db, project="stranger")
    await used(stranger, at=MIDNIGHT)
    assert await told(story) == []
    assert len(await told(stranger)) == 1
