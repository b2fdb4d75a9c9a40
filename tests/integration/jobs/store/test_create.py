"""Tests of app.audio.inspection.ffmpeg_probe.

Covers: app.audio.inspection.ffmpeg_probe, app.jobs.store.create, app.jobs.store.job_spec,
app.jobs.store.outcome, app.jobs.store.recordings, app.speech.usage_bounds
"""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from app.audio.probe import Probe
from app.audio.storage.blob_store import StoredBlob
from app.audio.tables import audio
from app.billing.tables import ledger_line
from app.db.database import Database
from app.errors import PriceUnknown
from app.jobs.store.create import create_job
from app.jobs.store.recordings import new_audio_of
from app.jobs.tables import event, transcription
from app.speech.usage_bounds import max_usage_of_call
from tests.support.scenario import NANO_PER_SECOND, NOW, Scenario, job_spec, principal_of, recording

pytestmark = pytest.mark.anyio
BYTES = "b" * 64


async def count(db: Database, table: sa.Table) -> int:
    query = sa.select(sa.func.count()).select_from(table)
    return int(await db.read(lambda tx: tx.scalar(query)) or 0)


async def test_a_job_is_durable_with_its_hold_and_its_first_event(db: Database) -> None:
    scenario = await Scenario.create(db, wanted=job_spec(3_000, reference="r", metadata={"a": "b"}))
    row = await scenario.row()
    assert (row["status"], row["run_epoch"], row["lease_until"]) == ("queued", 0, None)
    assert (row["reference"], row["client_metadata"]) == ("r", {"a": "b"})
    assert row["tariff"]["units"] == {"second": NANO_PER_SECOND}
    (line,) = await scenario.lines()
    assert (line["kind"], line["nano"], line["call_id"]) == ("hold", 3 * NANO_PER_SECOND, None)
    assert [said["type"] for said in await scenario.events()] == ["created"]


async def test_a_model_without_a_price_stores_nothing(db: Database) -> None:
    caller = await principal_of(db)
    unpriced = job_spec(model="scripted/unpriced")
    with pytest.raises(PriceUnknown):
        await db.write(create_job, caller, recording(), unpriced, now=NOW)
    for table in (audio, transcription, ledger_line, event):
        assert await count(db, table) == 0


async def test_the_same_bytes_are_stored_once_per_project(db: Database) -> None:
    first = await Scenario.create(db, audio=recording("one", sha256=BYTES))
    again = await Scenario.create(db, audio=recording("two", sha256=BYTES))
    assert first.id != again.id
    assert first.submitted.blob_key == again.submitted.blob_key
    assert await count(db, audio) == 1


async def test_the_same_bytes_are_never_shared_across_projects(db: Database) -> None:
    mine = await Scenario.create(db, audio=recording("one", sha256=BYTES))
    theirs = await Scenario.create(db, project="theirs", audio=recording("two", sha256=BYTES))
    assert mine.submitted.blob_key != theirs.submitted.blob_key
    assert await count(db, audio) == 2


async def test_erased_bytes_are_not_found_again(db: Database) -> None:
    gone = await Scenario.create(db, audio=recording("one", sha256=BYTES))
    await gone.erase()
    new = await Scenario.create(db, audio=recording("two", sha256=BYTES))
    assert new.submitted.blob_key != gone.submitted.blob_key


async def test_audio_of_unknown_length_is_held_at_its_largest_cost(db: Database) -> None:
    audio_ = replace(recording(seconds=None), sha256=BYTES)
    scenario = await Scenario.create(db, audio=audio_, wanted=job_spec(43_200_000))
    assert (await scenario.lines())[0]["nano"] == 43_200 * NANO_PER_SECOND


@pytest.mark.parametrize(
    ("seconds", "millis", "max_ms"),
    [
        (12.0, 12_000, 12_000),
        ((12 * 16_000 + 6) / 16_000, 12_001, 13_000),
        (10.39, 10_390, 11_000),  # times a thousand it is a little more, as a float
        (299.9999, 300_000, 300_000),
        (None, None, None),
    ],
)
def test_a_length_is_rounded_up_to_milliseconds(
    seconds: float | None, millis: int | None, max_ms: int | None
) -> None:
    found = Probe("wav", "pcm_s16le", 1, 16_000, seconds, exact=True)
    kept = new_audio_of(StoredBlob("key", BYTES, 100), found)
    assert kept.duration_ms == millis
    assert millis is None or max_usage_of_call(millis, None).millis == max_ms
