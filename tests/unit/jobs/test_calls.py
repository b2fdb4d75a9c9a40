"""Upstream calls: written down first, paid once, in doubt where nobody saw them end."""

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
from app.speech.usage_bounds import TokenFacts
from tests.support.story import (
    NANO_PER_SECOND,
    PLAN,
    PRICE,
    Story,
    answer,
    failure,
    principal_of,
    stretch,
    wish,
)

pytestmark = pytest.mark.anyio


async def standing(story: Story) -> JobTotals:
    return await story.db.read(ledger.totals, story.id)


async def test_an_answered_call_is_settled_at_what_the_upstream_reported(db: Database) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    await story.answered(job, await story.call(job), heard=answer(seconds=3))
    (call,) = await story.calls()
    assert (call["state"], call["billed"], call["request_id"]) == ("answered", "yes", "req-1")
    assert call["usage"] == {"seconds": 3}
    assert call["answer"] is None
    settle = (await story.lines())[-1]
    assert (settle["nano"], settle["used_ms"]) == (3 * NANO_PER_SECOND, 3_000)
    assert (settle["call_id"], settle["estimated"]) == (call["id"], False)


async def test_where_nothing_was_reported_our_own_milliseconds_count(db: Database) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    part = stretch(seconds=1.234)
    await story.answered(job, await story.call(job, part), part, heard=answer(seconds=None))
    settle = (await story.lines())[-1]
    assert (settle["used_ms"], settle["estimated"]) == (1_234, True)
    assert settle["nano"] == 1_234 * NANO_PER_SECOND // 1_000


async def by_the_token(db: Database) -> Story:
    """Begin a job at 800 and 2,700 nano a token, whose calls have bounds of tokens."""
    await principal_of(db)
    tokens = replace(PRICE, region="tokens", unit="input_token", nano=800)
    await db.write(load_prices, [tokens, replace(tokens, unit="output_token", nano=2_700)])
    facts = TokenFacts(per_second=25, per_call=10, most_output=100, context=3)
    plan = replace(PLAN, tokens=facts)
    wanted = wish(
        3_000,
        max_tokens=(100, 100),
        region="tokens",
        plan=plan,
        options=JobOptions(context="Ada"),
    )
    return await Story.begun(db, wanted=wanted)


@pytest.mark.parametrize(
    ("usage", "tokens", "is_guess"),
    [
        (EngineUsage(2.0, 40, 7), (40, 7), False),
        (EngineUsage(None, 40, 7), (40, 7), False),
        (EngineUsage(2.0), (51, 3), True),  # 50 of sound and 1 of context; 3 of text
        (EngineUsage(0.0), (0, 0), False),  # nobody spoke
    ],
)
async def test_tokens_are_settled_as_reported_or_reckoned_and_marked(
    db: Database, usage: EngineUsage, tokens: tuple[int, int], is_guess: bool
) -> None:
    story = await by_the_token(db)
    job = await story.take_up()
    call = await story.call(job)
    await story.answered(job, call, heard=replace(answer(text="我听到"), usage=usage))
    settle = (await story.lines())[-1]
    assert settle["nano"] == tokens[0] * 800 + tokens[1] * 2_700
    assert settle["used_tokens"] == sum(tokens)
    assert (settle["used_ms"], settle["estimated"]) == (
        round(1000 * (2.0 if usage.seconds is None else usage.seconds)),
        is_guess,
    )
    assert (await story.calls())[0]["max_cost_nano"] == (50 + 10 + 3) * 800 + 100 * 2_700
    assert settle["nano"] <= (await story.calls())[0]["max_cost_nano"]


async def test_the_upstreams_own_answer_is_kept_only_where_asked_for(db: Database) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    await story.answered(job, await story.call(job), keep_raw=True)
    assert (await story.calls())[0]["answer"] == {"text": "heard"}


async def test_an_answered_call_cannot_be_settled_again(db: Database) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    call = await story.call(job)
    await story.answered(job, call)
    with pytest.raises(AlreadyCommittedError):
        await story.answered(job, call)
    assert (await standing(story)).settled == 2 * NANO_PER_SECOND


async def test_a_part_has_one_call_an_attempt(db: Database) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    for _ in range(3):
        await story.call_failed(job, await story.call(job), failure())
    assert [call["attempt"] for call in await story.calls()] == [1, 2, 3]


async def test_a_lost_call_of_a_remote_engine_is_in_doubt(db: Database) -> None:
    story = await Story.begun(db)
    await story.call(await story.take_up(remote=True))
    await story.crash()
    await story.take_up(remote=True)
    (call,) = await story.calls()
    assert (call["state"], call["billed"]) == ("in_doubt", "maybe")
    assert call["closed_at"] is not None


async def test_a_lost_call_of_our_own_engine_failed_and_cost_nothing(db: Database) -> None:
    story = await Story.begun(db)
    await story.call(await story.take_up(remote=False))
    await story.crash()
    await story.take_up(remote=False)
    (call,) = await story.calls()
    assert (call["state"], call["billed"], call["error_kind"]) == ("failed", "no", "lost")


async def test_a_call_of_this_run_is_not_forsaken(db: Database) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    await story.call(job)
    assert [call["state"] for call in await story.calls()] == ["open"]


async def test_a_call_in_doubt_is_repeated_once_and_then_given_up(db: Database) -> None:
    story = await Story.begun(db)
    await story.call(await story.take_up())
    await story.crash()
    await story.call(await story.take_up())
    await story.crash()
    job = await story.take_up()
    with pytest.raises(UpstreamInDoubt):
        await story.call(job)
    assert [call["state"] for call in await story.calls()] == ["in_doubt", "in_doubt"]
    await story.fail(job, UpstreamInDoubt())
    after = await standing(story)
    assert (after.settled, after.released) == (0, after.held)


async def test_a_call_in_doubt_is_not_repeated_where_the_setting_says_so(db: Database) -> None:
    story = await Story.begun(db)
    await story.call(await story.take_up())
    await story.crash()
    job = await story.take_up()
    with pytest.raises(UpstreamInDoubt):
        await story.call(job, retry_in_doubt=False)


@pytest.mark.parametrize(("extra_ms", "is_repeated"), [(0, True), (1, False)])
async def test_a_long_call_in_doubt_is_too_dear_to_repeat(
    db: Database, extra_ms: int, is_repeated: bool
) -> None:
    part = stretch(seconds=(RETRIED_IN_DOUBT_MS + extra_ms) / 1000)
    story = await Story.begun(db, wanted=wish(400_000))
    await story.call(await story.take_up(), part)
    await story.crash()
    job = await story.take_up()
    if is_repeated:
        await story.call(job, part)
    else:
        with pytest.raises(UpstreamInDoubt):
            await story.call(job, part)


async def test_doubt_about_one_part_does_not_hinder_another(db: Database) -> None:
    story = await Story.begun(db)
    await story.call(await story.take_up())
    await story.crash()
    job = await story.take_up()
    assert await story.call(job, stretch(1), retry_in_doubt=False)


async def test_a_hold_that_covers_a_call_is_not_repeated(db: Database) -> None:
    story = await Story.begun(db, wanted=wish(2_000))
    await story.call(await story.take_up())
    assert [line["kind"] for line in await story.lines()] == ["hold"]


@pytest.mark.parametrize(("billed", "settled"), [(Billed.MAYBE, 2), (Billed.YES, 4)])
async def test_what_may_have_been_billed_stays_held_and_the_next_call_is_held_anew(
    db: Database, billed: Billed, settled: int
) -> None:
    story = await Story.begun(db, wanted=wish(2_000))
    job = await story.take_up()
    await story.call_failed(job, await story.call(job), failure(billed))
    second = await story.call(job)
    holds = [line for line in await story.lines() if line["kind"] == "hold"]
    assert [(line["call_id"], line["nano"]) for line in holds] == [
        (None, 2 * NANO_PER_SECOND),
        (second, 2 * NANO_PER_SECOND),
    ]
    await story.answered(job, second)
    await story.complete(job)
    after = await standing(story)
    assert (after.held, after.settled, after.released) == tuple(
        n * NANO_PER_SECOND for n in (4, settled, 4 - settled)
    )


async def test_a_call_that_cost_nothing_leaves_its_hold_to_the_next(db: Database) -> None:
    story = await Story.begun(db, wanted=wish(2_000))
    job = await story.take_up()
    for _ in range(3):
        await story.call_failed(job, await story.call(job), failure(Billed.NO))
    assert (await standing(story)).held == 2 * NANO_PER_SECOND


async def test_calls_open_at_once_are_all_held(db: Database) -> None:
    story = await Story.begun(db, wanted=wish(2_000))
    job = await story.take_up()
    for index in range(3):
        await story.call(job, stretch(index))
    assert (await standing(story)).held == 6 * NANO_PER_SECOND


async def test_a_part_is_kept_as_it_was_first_cut(db: Database) -> None:
    story = await Story.begun(db)
    await story.call(await story.take_up())
    await story.crash()
    await story.call(await story.take_up(), stretch(seconds=9))
    assert [part["end_ms"] for part in await story.parts()] == [2_000]


@pytest.mark.parametrize(
    ("kind", "billed", "index", "holds"),
    [
        (ErrorKind.REJECTED, Billed.NO, 0, True),
        (ErrorKind.REJECTED, Billed.YES, 0, False),
        (ErrorKind.REJECTED, Billed.NO, 1, False),
        (ErrorKind.UNAVAILABLE, Billed.NO, 0, False),
    ],
)
async def test_a_first_part_that_was_refused_for_nothing_is_known(
    db: Database, kind: ErrorKind, billed: Billed, index: int, *, holds: bool
) -> None:
    story = await Story.begun(db)
    job = await story.take_up()
    call = await story.call(job, stretch(index))
    assert not await db.read(was_rejected, story.id)
    await story.call_failed(job, call, EngineError(kind, "no", billed=billed))
    assert await db.read(was_rejected, story.id) is holds
