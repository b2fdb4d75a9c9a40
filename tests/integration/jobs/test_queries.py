"""Tests of app.jobs.queries.

Covers: app.jobs.queries, app.jobs.store.job
"""

from datetime import timedelta

import pytest

from app.db.database import Database
from app.jobs.queries import Filters, find_job, has_ended, list_jobs
from app.jobs.store.job import JobView
from app.jobs.store.job_spec import JobOptions
from tests.support.scenario import NANO_PER_SECOND, NOW, Scenario, answer, job_spec, part_span

pytestmark = pytest.mark.anyio


async def listed(db: Database, scenario: Scenario, **filters: object) -> list[str]:
    wanted = Filters(**filters)  # type: ignore[arg-type]
    project = scenario.principal.project_id
    page = await db.read(list_jobs, project, wanted, after=None, limit=100)
    return [found.id for found in page.items]


async def found_by(scenario: Scenario) -> JobView:
    found = await scenario.db.read(find_job, scenario.principal.project_id, scenario.id)
    assert found is not None
    return found


async def test_a_completed_job_has_its_transcript_and_totals(db: Database) -> None:
    scenario = await Scenario.create(db)
    job = await scenario.claim()
    await scenario.answered(job, await scenario.call(job))
    await scenario.complete(job, text="one two")
    found = await found_by(scenario)
    assert found.transcript is not None
    assert found.transcript["text"] == "one two"
    assert found.totals.settled == 2 * NANO_PER_SECOND
    assert found.raw is None


async def test_raw_answers_are_in_the_order_of_the_parts(db: Database) -> None:
    scenario = await Scenario.create(db, wanted=job_spec(options=JobOptions(include=("raw",))))
    job = await scenario.claim()
    for index in (1, 0, 2):
        part = part_span(index)
        call = await scenario.call(job, part)
        await scenario.answered(job, call, part, heard=answer(text=str(index)), keep_raw=True)
    assert (await found_by(scenario)).raw == [{"text": "0"}, {"text": "1"}, {"text": "2"}]


async def test_filters_narrow_the_list(db: Database) -> None:
    plain = await Scenario.create(db)
    named = await Scenario.create(db, wanted=job_spec(reference="mine"))
    await named.claim()
    assert await listed(db, plain) == [named.id, plain.id]
    assert await listed(db, plain, status="processing") == [named.id]
    assert await listed(db, plain, reference="mine") == [named.id]
    assert await listed(db, plain, reference="min") == []
    assert await listed(db, plain, model="other") == []
    assert await listed(db, plain, created_after=NOW) == [named.id, plain.id]
    assert await listed(db, plain, created_before=NOW) == []
    assert await listed(db, plain, created_after=NOW + timedelta(seconds=1)) == []


ODD = {
    "team": "support",
    'quo"te': 'va"lue',
    "a.b[0]$": "x",
    "naïve ☂": "é",
    "empty": "",
    "%": "\\",
}


async def test_metadata_filters_by_all_its_members(db: Database) -> None:
    plain = await Scenario.create(db)
    noted = await Scenario.create(db, wanted=job_spec(metadata=ODD))
    other = await Scenario.create(db, wanted=job_spec(metadata={"team": "sales", "empty": "no"}))
    for name, value in ODD.items():
        assert await listed(db, plain, metadata={name: value}) == [noted.id], name
    assert await listed(db, plain, metadata=ODD) == [noted.id]
    assert await listed(db, plain, metadata={"team": "sales"}) == [other.id]
    assert await listed(db, plain, metadata={"team": "sales", 'quo"te': 'va"lue'}) == []
    assert await listed(db, plain, metadata={"team": "suppor"}) == []
    assert await listed(db, plain, metadata={"tea": "support"}) == []
    assert await listed(db, plain, metadata={}) == [other.id, noted.id, plain.id]


async def test_jobs_of_other_projects_are_not_found(db: Database) -> None:
    mine, theirs = await Scenario.create(db), await Scenario.create(db, project="theirs")
    assert await listed(db, mine) == [mine.id]
    assert await db.read(find_job, mine.principal.project_id, theirs.id) is None


async def test_has_ended(db: Database) -> None:
    scenario = await Scenario.create(db)
    assert not await db.read(has_ended, scenario.id)
    await scenario.fail(await scenario.claim())
    assert await db.read(has_ended, scenario.id)
    assert await db.read(has_ended, "tr_none")
