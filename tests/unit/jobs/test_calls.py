"""Upstream calls: written down first, paid once, in doubt where nobody saw them end."""

import pytest
import sqlalchemy as sa

from app.billing import ledger
from app.billing.ledger import Standing
from app.db.engine import Database
from app.errors import UpstreamInDoubt
from app.jobs.calls import RETRIED_IN_DOUBT_MS
from app.speech.contract import Billed
from tests.support.story import NANO_PER_SECOND, Story, answer, failure, stretch, wish

pytestmark = pytest.mark.anyio


async def standing(story: Story) -> Standing:
    return await story.db.read(ledger.standing, story.id)


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
    with pytest.raises(sa.exc.IntegrityError):
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
    assert (after.settled, after.remaining) == (0, 0)


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
