"""Routes: fixed when a job is created; held at the highest price, settled at their own.

Covers: app.billing.bill, app.jobs.reconcile, app.jobs.store.routes
"""

from dataclasses import replace

import pytest

from app.billing import ledger
from app.billing.bill import BillLine
from app.billing.prices import load_prices
from app.db.database import Database
from app.jobs.reconcile import BillScope, apply, look
from app.jobs.store.job_spec import EnginePlace
from app.speech.engine import Billed
from tests.support.scenario import (
    NANO_PER_SECOND,
    NOW,
    PRICE,
    Scenario,
    answer,
    failure,
    job_spec,
    part_span,
    principal_of,
)

pytestmark = pytest.mark.anyio
DEAR = 3 * NANO_PER_SECOND
OTHERS = [
    EnginePlace("scripted/dear", "dear", "echo-dear"),
    EnginePlace("scripted/dollars", "dollars", "echo"),
    EnginePlace("scripted/unpriced", "unpriced", "echo"),
    EnginePlace("scripted/cheap", "cheap", "echo"),
]


async def begun(db: Database) -> Scenario:
    await principal_of(db)
    rows = [
        replace(PRICE, region="dear", nano=DEAR),
        replace(PRICE, region="dollars", nano=1, currency="USD"),
        replace(PRICE, region="cheap", nano=1),
    ]
    await db.write(load_prices, rows)
    return await Scenario.create(db, wanted=job_spec(2_000, others=OTHERS))


async def test_routes_without_a_price_in_the_jobs_currency_are_left_out(db: Database) -> None:
    scenario = await begun(db)
    job = await scenario.claim()
    assert [(route.engine, route.upstream_model) for route in job.routes] == [
        ("scripted", "echo"),
        ("scripted/dear", "echo-dear"),
        ("scripted/cheap", "echo"),
    ]
    assert [route.tariff.units["second"] for route in job.routes] == [NANO_PER_SECOND, DEAR, 1]
    assert [line["nano"] for line in await scenario.lines()] == [2 * DEAR]


async def test_a_claimed_job_has_the_stored_routes(db: Database) -> None:
    principal = await principal_of(db)
    await db.write(load_prices, [replace(PRICE, region="dear", nano=DEAR)])
    scenario = await Scenario.create(db, wanted=job_spec(others=OTHERS[:1]), lease_seconds=60)
    claimed = scenario.submitted.claimed
    assert claimed is not None
    assert principal == scenario.principal
    await scenario.crash()
    assert tuple((await scenario.claim()).routes) == tuple(claimed.routes)


async def test_a_call_is_held_settled_and_reconciled_on_its_route(db: Database) -> None:
    scenario = await begun(db)
    job = await scenario.claim()
    await scenario.call_failed(job, await scenario.call(job), failure(Billed.MAYBE))
    call = await scenario.call(job, route=1)
    await scenario.answered(job, call, route=1, heard=answer(seconds=2))
    await scenario.complete(job)
    doubted, made = await scenario.calls()
    assert [(one["engine"], one["max_cost_nano"]) for one in (doubted, made)] == [
        ("scripted", 2 * NANO_PER_SECOND),
        ("scripted/dear", 2 * DEAR),
    ]
    money = await db.read(ledger.totals, scenario.id)
    assert (money.settled, money.held) == (2 * DEAR, 2 * DEAR + 2 * NANO_PER_SECOND)

    dear = [BillLine("req-1", "echo-dear", 3_000, "dear", NOW)]
    first = [BillLine("req-0", "echo", 2_000, "test", NOW)]
    assert (await db.read(look, dear, BillScope("scripted/dear"))).differences[0].nano == DEAR
    assert [one.kind for one in (await db.read(look, dear, BillScope("scripted"))).differences] == [
        "unmatched"
    ]
    await db.write(apply, dear, BillScope("scripted/dear"), now=NOW)
    await db.write(apply, first, BillScope("scripted"), now=NOW)
    both = BillScope("scripted", also=("scripted/dear",))
    assert (await db.read(look, [*first, *dear], both)).differences == []
    settled = (await db.read(ledger.totals, scenario.id)).settled
    assert settled == 3 * DEAR + 2 * NANO_PER_SECOND


async def test_a_call_in_doubt_counts_on_every_engine(db: Database) -> None:
    from app.errors import UpstreamInDoubt  # noqa: PLC0415

    scenario = await begun(db)
    job = await scenario.claim()
    await scenario.call_failed(job, await scenario.call(job), failure(Billed.MAYBE))
    await scenario.call_failed(
        job, await scenario.call(job, route=1), failure(Billed.MAYBE), route=1
    )
    with pytest.raises(UpstreamInDoubt):
        await scenario.call(job, part_span(), route=2)
