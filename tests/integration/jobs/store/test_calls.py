"""Upstream calls: recorded before they are made, settled once, in doubt without an answer.

Covers: app.jobs.store.calls, app.speech.usage_bounds
"""

from dataclasses import replace

import pytest

from app.billing import ledger
from app.billing.ledger import JobTotals
from app.billing.prices import load_prices
from app.db.database import Database
from app.errors import UpstreamInDoubt
from app.jobs.store.calls import RETRIED_IN_DOUBT_MS, AlreadyCommittedError, was_rejected
from app.jobs.store.job_spec import JobOptions
from app.speech.engine import Billed, EngineError, EngineUsage, ErrorKind
from app.speech.usage_bounds import TokenBounds
from tests.support.scenario import (
    NANO_PER_SECOND,
    PLAN,
    PRICE,
    Scenario,
    answer,
    failure,
    job_spec,
    part_span,
    principal_of,
)

pytestmark = pytest.mark.anyio


async def totals_of(scenario: Scenario) -> JobTotals:
    return await scenario.db.read(ledger.totals, scenario.id)


async def test_an_answered_call_is_settled_by_its_reported_usage(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    await scenario.answered(job, await scenario.call(job), heard=answer(seconds=3))
    (call,) = await scenario.calls()
    assert (call["state"], call["billed"], call["request_id"]) == ("answered", "yes", "req-1")
    assert call["usage"] == {"seconds": 3}
    assert call["answer"] is None
    settle = (await scenario.lines())[-1]
    assert (settle["nano"], settle["used_ms"]) == (3 * NANO_PER_SECOND, 3_000)
    assert (settle["call_id"], settle["estimated"]) == (call["id"], False)


async def test_without_reported_usage_the_sent_milliseconds_are_settled(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    part = part_span(seconds=1.234)
    await scenario.answered(job, await scenario.call(job, part), part, heard=answer(seconds=None))
    settle = (await scenario.lines())[-1]
    assert (settle["used_ms"], settle["estimated"]) == (1_234, True)
    assert settle["nano"] == 1_234 * NANO_PER_SECOND // 1_000


async def by_the_token(db: Database) -> Scenario:
    """Create a job with token prices of 800 and 2,700 nano and token bounds in its plan."""
    await principal_of(db)
    tokens = replace(PRICE, region="tokens", unit="input_token", nano=800)
    await db.write(load_prices, [tokens, replace(tokens, unit="output_token", nano=2_700)])
    facts = TokenBounds(per_second=25, per_call=10, max_output=100, context=3)
    plan = replace(PLAN, tokens=facts)
    wanted = job_spec(
        3_000,
        max_tokens=(100, 100),
        region="tokens",
        plan=plan,
        options=JobOptions(context="Ada"),
    )
    return await Scenario.create(db, wanted=wanted)


@pytest.mark.parametrize(
    ("usage", "tokens", "is_guess"),
    [
        (EngineUsage(2.0, 40, 7), (40, 7), False),
        (EngineUsage(None, 40, 7), (40, 7), False),
        (EngineUsage(2.0), (51, 3), True),  # 50 for the audio, 1 for the context; 3 for the text
        (EngineUsage(0.0), (0, 0), False),  # silence
    ],
)
async def test_tokens_are_settled_as_reported_or_estimated(
    db: Database, usage: EngineUsage, tokens: tuple[int, int], is_guess: bool
) -> None:
    scenario = await by_the_token(db)
    job = await scenario.claim()
    call = await scenario.call(job)
    await scenario.answered(job, call, heard=replace(answer(text="我听到"), usage=usage))
    settle = (await scenario.lines())[-1]
    assert settle["nano"] == tokens[0] * 800 + tokens[1] * 2_700
    assert settle["used_tokens"] == sum(tokens)
    assert (settle["used_ms"], settle["estimated"]) == (
        round(1000 * (2.0 if usage.seconds is None else usage.seconds)),
        is_guess,
    )
    assert (await scenario.calls())[0]["max_cost_nano"] == (50 + 10 + 3) * 800 + 100 * 2_700
    assert settle["nano"] <= (await scenario.calls())[0]["max_cost_nano"]


async def test_the_raw_answer_is_stored_on_request_only(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    await scenario.answered(job, await scenario.call(job), keep_raw=True)
    assert (await scenario.calls())[0]["answer"] == {"text": "heard"}


async def test_an_answered_call_cannot_be_settled_again(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    call = await scenario.call(job)
    await scenario.answered(job, call)
    with pytest.raises(AlreadyCommittedError):
        await scenario.answered(job, call)
    assert (await totals_of(scenario)).settled == 2 * NANO_PER_SECOND


async def test_an_attempt_of_a_part_has_one_call(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    for _ in range(3):
        await scenario.call_failed(job, await scenario.call(job), failure())
    assert [call["attempt"] for call in await scenario.calls()] == [1, 2, 3]


async def test_a_lost_call_of_a_remote_engine_is_in_doubt(db: Database) -> None:
    scenario = await Scenario.create(db)
    await scenario.call(await scenario.claim(remote=True))
    await scenario.crash()
    await scenario.claim(remote=True)
    (call,) = await scenario.calls()
    assert (call["state"], call["billed"]) == ("in_doubt", "maybe")
    assert call["closed_at"] is not None


async def test_a_lost_call_of_a_local_engine_failed_free_of_charge(db: Database) -> None:
    scenario = await Scenario.create(db)
    await scenario.call(await scenario.claim(remote=False))
    await scenario.crash()
    await scenario.claim(remote=False)
    (call,) = await scenario.calls()
    assert (call["state"], call["billed"], call["error_kind"]) == ("failed", "no", "lost")


async def test_an_open_call_of_a_running_job_is_not_orphaned(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    await scenario.call(job)
    assert [call["state"] for call in await scenario.calls()] == ["open"]


async def test_a_call_in_doubt_is_repeated_once(db: Database) -> None:
    scenario = await Scenario.create(db)
    await scenario.call(await scenario.claim())
    await scenario.crash()
    await scenario.call(await scenario.claim())
    await scenario.crash()
    job = await scenario.claim()
    with pytest.raises(UpstreamInDoubt):
        await scenario.call(job)
    assert [call["state"] for call in await scenario.calls()] == ["in_doubt", "in_doubt"]
    await scenario.fail(job, UpstreamInDoubt())
    after = await totals_of(scenario)
    assert (after.settled, after.released) == (0, after.held)


async def test_the_setting_in_doubt_fail_repeats_no_call(db: Database) -> None:
    scenario = await Scenario.create(db)
    await scenario.call(await scenario.claim())
    await scenario.crash()
    job = await scenario.claim()
    with pytest.raises(UpstreamInDoubt):
        await scenario.call(job, retry_in_doubt=False)


@pytest.mark.parametrize(("extra_ms", "is_repeated"), [(0, True), (1, False)])
async def test_a_long_call_in_doubt_is_not_repeated(
    db: Database, extra_ms: int, is_repeated: bool
) -> None:
    part = part_span(seconds=(RETRIED_IN_DOUBT_MS + extra_ms) / 1000)
    scenario = await Scenario.create(db, wanted=job_spec(400_000))
    await scenario.call(await scenario.claim(), part)
    await scenario.crash()
    job = await scenario.claim()
    if is_repeated:
        await scenario.call(job, part)
    else:
        with pytest.raises(UpstreamInDoubt):
            await scenario.call(job, part)


async def test_a_call_in_doubt_does_not_affect_other_parts(db: Database) -> None:
    scenario = await Scenario.create(db)
    await scenario.call(await scenario.claim())
    await scenario.crash()
    job = await scenario.claim()
    assert await scenario.call(job, part_span(1), retry_in_doubt=False)


async def test_a_call_that_the_hold_covers_takes_no_further_hold(db: Database) -> None:
    scenario = await Scenario.create(db, wanted=job_spec(2_000))
    await scenario.call(await scenario.claim())
    assert [line["kind"] for line in await scenario.lines()] == ["hold"]


@pytest.mark.parametrize(("billed", "settled"), [(Billed.MAYBE, 2), (Billed.YES, 4)])
async def test_the_cost_of_a_call_in_doubt_stays_held_and_the_next_call_takes_a_hold(
    db: Database, billed: Billed, settled: int
) -> None:
    scenario = await Scenario.create(db, wanted=job_spec(2_000))
    job = await scenario.claim()
    await scenario.call_failed(job, await scenario.call(job), failure(billed))
    second = await scenario.call(job)
    holds = [line for line in await scenario.lines() if line["kind"] == "hold"]
    assert [(line["call_id"], line["nano"]) for line in holds] == [
        (None, 2 * NANO_PER_SECOND),
        (second, 2 * NANO_PER_SECOND),
    ]
    await scenario.answered(job, second)
    await scenario.complete(job)
    after = await totals_of(scenario)
    assert (after.held, after.settled, after.released) == tuple(
        n * NANO_PER_SECOND for n in (4, settled, 4 - settled)
    )


async def test_a_call_free_of_charge_leaves_its_hold_to_the_next_call(db: Database) -> None:
    scenario = await Scenario.create(db, wanted=job_spec(2_000))
    job = await scenario.claim()
    for _ in range(3):
        await scenario.call_failed(job, await scenario.call(job), failure(Billed.NO))
    assert (await totals_of(scenario)).held == 2 * NANO_PER_SECOND


async def test_the_hold_covers_all_open_calls(db: Database) -> None:
    scenario = await Scenario.create(db, wanted=job_spec(2_000))
    job = await scenario.claim()
    for index in range(3):
        await scenario.call(job, part_span(index))
    assert (await totals_of(scenario)).held == 6 * NANO_PER_SECOND


async def test_a_stored_span_is_not_changed(db: Database) -> None:
    scenario = await Scenario.create(db)
    await scenario.call(await scenario.claim())
    await scenario.crash()
    await scenario.call(await scenario.claim(), part_span(seconds=9))
    assert [part["end_ms"] for part in await scenario.parts()] == [2_000]


@pytest.mark.parametrize(
    ("kind", "billed", "index", "holds"),
    [
        (ErrorKind.REJECTED, Billed.NO, 0, True),
        (ErrorKind.REJECTED, Billed.YES, 0, False),
        (ErrorKind.REJECTED, Billed.NO, 1, False),
        (ErrorKind.UNAVAILABLE, Billed.NO, 0, False),
    ],
)
async def test_was_rejected_finds_an_unbilled_rejection_of_the_first_part(
    db: Database, kind: ErrorKind, billed: Billed, index: int, *, holds: bool
) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    call = await scenario.call(job, part_span(index))
    assert not await db.read(was_rejected, scenario.id)
    await scenario.call_failed(job, call, EngineError(kind, "no", billed=billed))
    assert await db.read(was_rejected, scenario.id) is holds
