"""Two processes do the same at the same moment: the result is one row and no error.

Covers: app.jobs.store.create, app.jobs.store.recordings
"""

import asyncio

import pytest

from app.access.principal import ALL_SCOPES, Principal
from app.access.projects import DEFAULT_PROJECT, ensure_project
from app.billing.prices import PriceRow, load_prices
from app.db.database import Database
from app.db.migrate import open_database
from app.jobs.store.create import CreatedJob, create_job
from app.jobs.store.job_spec import JobOptions, JobSpec
from app.jobs.store.recordings import NewAudio
from app.kit.clock import utc_now
from tests.support.scenario import PLAN

AT_ONCE = 8
NOW = utc_now()
PRICE = PriceRow("m", "test", "second", 220_000, "CNY", NOW, None, "made up")
WISH = JobSpec("m", "scripted", "test", "auto", JobOptions(), PLAN, 1_000)


async def start(db: Database) -> str:
    """The database work of a process at its start."""
    project = await db.write(ensure_project, DEFAULT_PROJECT, now=NOW)
    await db.write(load_prices, [PRICE])
    return project


async def send(db: Database, project: str, number: int) -> CreatedJob:
    """The same bytes in another blob: each upload is stored before its hash is looked up."""
    recording = NewAudio("0" * 64, 44, f"blob-{number}", "wav", "pcm_s16le", 1, 16_000, 1_000)
    return await db.write(
        create_job, Principal(project, None, ALL_SCOPES), recording, WISH, now=utc_now()
    )


@pytest.mark.anyio
async def test_the_same_start_and_the_same_bytes(database_url: str) -> None:
    async with open_database(database_url, pool=AT_ONCE) as db:
        projects = await asyncio.gather(*(start(db) for _ in range(AT_ONCE)))
        sent = await asyncio.gather(*(send(db, projects[0], n) for n in range(AT_ONCE)))
    assert len(set(projects)) == 1
    assert len({job.job_id for job in sent}) == AT_ONCE
    assert len({job.blob_key for job in sent}) == 1
