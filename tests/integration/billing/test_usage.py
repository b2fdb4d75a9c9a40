"""Tests of app.access.keys.

Covers: app.access.keys, app.billing.usage
"""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from app.access.keys import create_key
from app.access.principal import ALL_SCOPES
from app.billing import ledger
from app.billing.ledger import BilledUsage, LedgerAccount
from app.billing.usage import Period, UsageGroup, sum_usage
from app.db.database import Database
from tests.support.scenario import NOW, Scenario

pytestmark = pytest.mark.anyio
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
YEAR = Period(MIDNIGHT - timedelta(days=300), MIDNIGHT + timedelta(days=60))


async def used(
    scenario: Scenario,
    *,
    at: datetime,
    nano: int = 100,
    model: str = "m",
    key_id: str | None = None,
    currency: str = "CNY",
) -> None:
    """Settle one second for the scenario's job at that time, in a call of its own."""
    calls = len(await scenario.calls())
    job = await scenario.claim() if calls == 0 else scenario.claimed[0]
    scenario.claimed.append(job)
    call = await scenario.call(job)
    account = LedgerAccount(scenario.principal.project_id, key_id, scenario.id, model, currency)
    await scenario.db.write(
        ledger.settle, account, call, BilledUsage(1_000, 2, nano, estimated=False), now=at
    )


async def told(
    scenario: Scenario, *by: UsageGroup, period: Period = YEAR
) -> list[tuple[object, ...]]:
    rows = await scenario.db.read(
        sum_usage, project_id=scenario.principal.project_id, period=period, by=by or ["day"]
    )
    return [(*row.group, row.transcriptions, row.used_ms, row.nano) for row in rows]


async def test_days_are_days_of_utc(db: Database) -> None:
    scenario = await Scenario.create(db)
    await used(scenario, at=MIDNIGHT - timedelta(microseconds=1))
    await used(scenario, at=MIDNIGHT)
    await used(scenario, at=MIDNIGHT + timedelta(hours=23, minutes=59))
    assert await told(scenario) == [("2026-11-19", 1, 1_000, 100), ("2026-11-20", 1, 2_000, 200)]


async def test_a_period_includes_its_first_moment_and_not_its_last(db: Database) -> None:
    scenario = await Scenario.create(db)
    await used(scenario, at=MIDNIGHT)
    for since, until, seen in ((0, 1, True), (-1, 0, False), (1, 2, False)):
        hour = timedelta(hours=1)
        period = Period(MIDNIGHT + since * hour, MIDNIGHT + until * hour)
        assert bool(await told(scenario, period=period)) is seen


async def test_sums_by_model_key_and_project(db: Database) -> None:
    scenario, other = await Scenario.create(db), await Scenario.create(db)

    def add_key(tx: sa.Connection) -> str:
        return create_key(
            tx,
            project_id=scenario.principal.project_id,
            name="k",
            scopes=ALL_SCOPES,
            pepper=b"p",
            now=NOW,
        ).id

    key = await db.write(add_key)
    await used(scenario, at=MIDNIGHT, model="a", nano=1)
    await used(scenario, at=MIDNIGHT, model="b", nano=10, key_id=key)
    await used(other, at=MIDNIGHT, model="b", nano=100)
    project = scenario.principal.project_id
    assert await told(scenario, "model") == [("a", 1, 1_000, 1), ("b", 2, 2_000, 110)]
    assert await told(scenario, "project") == [(project, 2, 3_000, 111)]
    assert sorted(await told(scenario, "key"), key=str) == [
        (key, 1, 1_000, 10),
        (None, 2, 2_000, 101),
    ]
    assert await told(scenario, "day", "model") == [
        ("2026-11-20", "a", 1, 1_000, 1),
        ("2026-11-20", "b", 2, 2_000, 110),
    ]


async def test_currencies_are_never_added_up(db: Database) -> None:
    scenario = await Scenario.create(db)
    await used(scenario, at=MIDNIGHT, currency="CNY", nano=1)
    await used(scenario, at=MIDNIGHT, currency="USD", nano=10)
    assert await told(scenario) == [("2026-11-20", 1, 1_000, 1), ("2026-11-20", 1, 1_000, 10)]


async def test_holds_are_no_costs_and_another_project_is_not_seen(db: Database) -> None:
    scenario = await Scenario.create(db)
    stranger = await Scenario.create(db, project="stranger")
    await used(stranger, at=MIDNIGHT)
    assert await told(scenario) == []
    assert len(await told(stranger)) == 1
