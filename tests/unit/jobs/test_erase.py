"""Deleting: the words are gone from every table, what it cost remains."""

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
from tests.support.story import NOW, Story, answer, failure, recording, stretch, wish

pytestmark = pytest.mark.anyio
WORD = "canary"
SAYING = {
    "reference": f"{WORD} reference",
    "metadata": {"who": f"{WORD} metadata"},
    "options": JobOptions(context=f"{WORD} context", include=("raw",)),
}


async def everything(db: Database) -> str:
    """Return all there is in the database, as text."""

    def dump(tx: sa.Connection) -> str:
        return "\n".join(
            f"{table.name} {tuple(row)}"
            for table in metadata.sorted_tables
            for row in tx.execute(sa.select(table))
        )

    return await db.read(dump)


async def spoken(db: Database, **fields: Any) -> Story:
    """Return a completed transcription full of the word."""
    story = await Story.begun(db, wanted=wish(**SAYING), **fields)
    job = await story.take_up()
    heard = answer(text=f"{WORD} said")
    await story.answered(job, await story.call(job), heard=heard, keep_raw=True)
    await story.complete(job, text=f"{WORD} said")
    return story


async def test_no_table_holds_the_words_afterwards(db: Database) -> None:
    story = await spoken(db)
    assert (await everything(db)).count(WORD) >= 5
    money = await story.lines()
    assert await story.erase()
    assert WORD not in await everything(db)
    assert await story.lines() == money
    row = await story.row()
    assert row["erased_at"] is not None
    assert row["status"] == "completed"
    assert await story.events() == []


async def test_deleting_again_does_nothing_more(db: Database) -> None:
    story = await spoken(db)
    await story.erase()
    row = await story.row()
    assert await story.erase()
    assert await story.row() == row


async def test_nobody_deletes_what_is_another_projects(db: Database) -> None:
    story = await spoken(db)
    other = await Story.begun(db, project="other")
    for project, job in ((other.principal, story.id), (story.principal, "tr_none")):
        gone = await db.write(erase, project.project_id, job, local_engines=(), now=NOW)
        assert gone is None
    assert (await story.row())["erased_at"] is None


async def test_an_open_job_is_cancelled_and_its_run_writes_nothing_afterwards(
    db: Database,
) -> None:
    story = await Story.begun(db, wanted=wish(**SAYING))
    job = await story.take_up()
    call = await story.call(job)
    assert await story.erase()
    row = await story.row()
    assert (row["status"], row["lease_until"]) == ("cancelled", None)
    assert row["completed_at"] is not None
    for deed in (
        story.answered(job, call, heard=answer(text=WORD)),
        story.call_failed(job, call, failure()),
        story.call(job, stretch(1)),
        story.complete(job, text=WORD),
        story.fail(job),
    ):
        with pytest.raises(StaleRun):
            await deed
    assert WORD not in await everything(db)
    assert [line["kind"] for line in await story.lines()] == ["hold", "release"]
    assert [row["state"] for row in await story.calls()] == ["in_doubt"]


async def test_a_queued_job_is_cancelled_before_it_began(db: Database) -> None:
    story = await Story.begun(db)
    await story.erase()
    assert await story.try_to_take_up() is None
    assert (await story.row())["status"] == "cancelled"


async def test_audio_that_another_transcription_has_is_kept_until_that_goes_too(
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


async def test_another_projects_copy_of_the_same_bytes_stays(db: Database) -> None:
    mine = await spoken(db, audio=recording("mine"))
    await spoken(db, project="theirs", audio=recording("theirs"))
    await mine.erase()
    kept = sa.select(audio.c.blob_key).where(audio.c.erased_at.is_(None))
    assert len(await db.read(lambda tx: tx.scalars(kept).all())) == 1


async def test_what_was_deleted_is_in_no_list_and_found_as_erased(db: Database) -> None:
    story, other = await spoken(db), await spoken(db)
    await story.erase()
    project = story.principal.project_id
    page = await db.read(list_jobs, project, Filters(), after=None, limit=9)
    assert [found.id for found in page.items] == [other.id]
    found = await db.read(find_job, project, story.id)
    assert found is not None
    assert found.erased_at is not None
    assert (found.transcript, found.reference, found.metadata) == (None, None, None)
