"""Attempts of a part are counted from stored calls, so that a crash does not reset them.

Covers: app.jobs.store.attempts
"""

import pytest

from app.db.database import Database
from app.jobs.store.attempts import AttemptCounts, exhausted_engines
from app.speech.engine import Billed, EngineError, ErrorKind
from tests.support.scenario import Scenario, part_span

pytestmark = pytest.mark.anyio


def failed(kind: ErrorKind, billed: Billed = Billed.NO) -> EngineError:
    return EngineError(kind, "x", billed=billed, retryable=True)


async def test_attempts_are_counted_by_part_and_survive_a_crash(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()

    async def fail(kind: ErrorKind, part: int = 0, billed: Billed = Billed.NO) -> AttemptCounts:
        call = await scenario.call(job, part_span(part))
        return await scenario.call_failed(job, call, failed(kind, billed))

    assert await fail(ErrorKind.INTERNAL) == AttemptCounts(1, 0, 1)
    assert await fail(ErrorKind.UNAVAILABLE) == AttemptCounts(1, 1, 2)
    assert await fail(ErrorKind.RATE_LIMITED) == AttemptCounts(1, 1, 3)
    assert await fail(ErrorKind.INTERNAL, part=1) == AttemptCounts(1, 0, 1)
    await scenario.call(job, part_span(0))
    await scenario.crash()
    job = await scenario.claim()
    assert await fail(ErrorKind.NETWORK, billed=Billed.MAYBE) == AttemptCounts(2, 1, 4)
    assert await db.read(exhausted_engines, scenario.id, 0) == frozenset()
    assert await fail(ErrorKind.TIMEOUT, part=1) == AttemptCounts(2, 0, 2)
    assert await fail(ErrorKind.TIMEOUT, part=1) == AttemptCounts(3, 0, 3)
    assert await db.read(exhausted_engines, scenario.id, 0) == frozenset()
    assert await db.read(exhausted_engines, scenario.id, 1) == {job.engine}
    await fail(ErrorKind.ACCOUNT, part=2)
    assert await db.read(exhausted_engines, scenario.id, 0) == {job.engine}
