"""Erasing a job deletes its text from every table; its costs stay.

Covers: app.jobs.erase, app.jobs.queries
"""

from typing import Any

import pytest
import sqlalchemy as sa

from app.audio.tables import audio
from app.db.database import Database
from app.jobs.erase import erase, mark_purged, pending_purges
from app.jobs.queries import Filters, find_job, list_jobs
from app.jobs.store.job_spec import JobOptions
from app.jobs.store.runs import StaleRun
from app.jobs.tables import metadata
from tests.support.scenario import (
    NOW,
    Scenario,
    answer,
    failure,
    job_spec,
    no_live_text,
    part_span,
    recording,
)

pytestmark = pytest.mark.anyio
WORD = "canary"
SAYING = {
    "reference": f"{WORD} reference",
    "metadata": {"who": f"{WORD} metadata"},
    "options": JobOptions(context=f"{WORD} context", include=("raw",)),
}


async def everything(db: Database) -> str:
    """Return the content of all tables as text."""

    def dump(tx: sa.Connection) -> str:
        return "\n".join(
            f"{table.name} {tuple(row)}"
            for table in metadata.sorted_tables
            for row in tx.execute(sa.select(table))
        )

    return await db.read(dump)


async def spoken(db: Database, **fields: Any) -> Scenario:
    """Return a completed transcription with the word in every text column."""
    scenario = await Scenario.create(db, wanted=job_spec(**SAYING), **fields)
    job = await scenario.claim()
    heard = answer(text=f"{WORD} said")
    await scenario.answered(job, await scenario.call(job), heard=heard, keep_raw=True)
    await scenario.complete(job, text=f"{WORD} said")
    return scenario


async def test_erased_text_is_in_no_table(db: Database) -> None:
    scenario = await spoken(db)
    assert (await everything(db)).count(WORD) >= 5
    money = await scenario.lines()
    assert await scenario.erase()
    assert WORD not in await everything(db)
    assert await scenario.lines() == money
    row = await scenario.row()
    assert row["erased_at"] is not None
    assert row["status"] == "completed"
    assert await scenario.events() == []


async def test_a_second_erase_changes_nothing(db: Database) -> None:
    scenario = await spoken(db)
    await scenario.erase()
    row = await scenario.row()
    assert await scenario.erase()
    assert await scenario.row() == row


async def test_a_job_of_another_project_is_not_erased(db: Database) -> None:
    scenario = await spoken(db)
    other = await Scenario.create(db, project="other")
    for project, job in ((other.principal, scenario.id), (scenario.principal, "tr_none")):
        gone = await db.write(
            erase,
            project.project_id,
            job,
            local_engines=(),
            has_live_text=no_live_text,
            now=NOW,
        )
        assert gone is None
    assert (await scenario.row())["erased_at"] is None


async def test_erasing_an_open_job_cancels_it_and_fences_its_run(
    db: Database,
) -> None:
    scenario = await Scenario.create(db, wanted=job_spec(**SAYING))
    job = await scenario.claim()
    call = await scenario.call(job)
    assert await scenario.erase()
    row = await scenario.row()
    assert (row["status"], row["lease_until"]) == ("cancelled", None)
    assert row["completed_at"] is not None
    for operation in (
        scenario.answered(job, call, heard=answer(text=WORD)),
        scenario.call_failed(job, call, failure()),
        scenario.call(job, part_span(1)),
        scenario.complete(job, text=WORD),
        scenario.fail(job),
    ):
        with pytest.raises(StaleRun):
            await operation
    assert WORD not in await everything(db)
    assert [line["kind"] for line in await scenario.lines()] == ["hold", "release"]
    assert [row["state"] for row in await scenario.calls()] == ["in_doubt"]


async def test_erasing_a_queued_job_cancels_it(db: Database) -> None:
    scenario = await Scenario.create(db)
    await scenario.erase()
    assert await scenario.try_claim() is None
    assert (await scenario.row())["status"] == "cancelled"


async def test_audio_is_erased_with_its_last_transcription(
    db: Database,
) -> None:
    one = await spoken(db, audio=recording("kept"))
    two = await spoken(db, audio=recording("never stored"))
    await one.erase()
    assert await db.read(pending_purges) == []
    await two.erase()
    (left,) = await db.read(pending_purges)
    assert left.blob_key == one.submitted.blob_key
    await db.write(mark_purged, left.audio_id, now=NOW)
    assert await db.read(pending_purges) == []


async def test_the_same_audio_of_another_project_is_kept(db: Database) -> None:
    mine = await spoken(db, audio=recording("mine"))
    await spoken(db, project="theirs", audio=recording("theirs"))
    await mine.erase()
    kept = sa.select(audio.c.blob_key).where(audio.c.erased_at.is_(None))
    assert len(await db.read(lambda tx: tx.scalars(kept).all())) == 1


async def test_an_erased_job_is_not_listed_and_is_found_as_erased(db: Database) -> None:
    scenario, other = await spoken(db), await spoken(db)
    await scenario.erase()
    project = scenario.principal.project_id
    page = await db.read(list_jobs, project, Filters(), after=None, limit=9)
    assert [found.id for found in page.items] == [other.id]
    found = await db.read(find_job, project, scenario.id)
    assert found is not None
    assert found.erased_at is not None
    assert (found.transcript, found.reference, found.metadata) == (None, None, None)
