"""A worker that is stopped and continues after its lease writes nothing: others run its jobs.

Covers: app.audio.intake.download, app.audio.storage.links, app.audio.storage.local_store,
app.jobs.execution.fetch_source, app.jobs.execution.transcribe, app.jobs.planning,
app.jobs.store.create, app.jobs.store.recordings, app.jobs.streaming.hub
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.access.principal import ALL_SCOPES, Principal
from app.access.projects import DEFAULT_PROJECT, ensure_project
from app.audio.ffmpeg import Decoders
from app.audio.intake.download import Fetcher
from app.audio.storage.links import SignedLinks
from app.audio.storage.local_store import LocalStore
from app.billing.prices import PriceRow, load_prices
from app.db.database import Database
from app.db.migrate import open_database
from app.jobs.execution.fetch_source import SourceFetcher
from app.jobs.execution.transcribe import Transcriber
from app.jobs.planning import Planner
from app.jobs.store.create import create_job
from app.jobs.store.job_spec import JobOptions, JobPlan, JobSpec
from app.jobs.store.recordings import NewAudio
from app.jobs.streaming.hub import StreamHub
from app.jobs.tables import transcription
from app.kit.clock import utc_now
from app.settings import AudioSettings, FetchSettings, JobSettings, Settings
from app.speech.catalogue import load_catalogue
from app.speech.engine import Billed, EngineError, ErrorKind
from tests.support.job_records import JobRecords, read_rows, snapshot
from tests.support.kill import SPEECH
from tests.support.postgres import Databases
from tests.support.scripted_engine import CATALOGUE, ScriptedEngine, billed_seconds
from tests.support.stopped_worker import Workers

STOPPED_SECONDS = 3.0
SHORT_LEASE = {"JOBS__LEASE_SECONDS": "1", "JOBS__MAINTENANCE_INTERVAL_SECONDS": "0.2"}
NEVER_RENEWED_SECONDS = 3600.0
MAX_SECONDS = 3600
NANO_PER_SECOND = 220_000
AGES_AGO = timedelta(days=1)


def test_a_process_that_was_stopped_beyond_its_lease_writes_nothing(
    postgres: Databases, tmp_path: Path
) -> None:
    seed = int(os.environ.get("KILL_SEED") or secrets.randbelow(1_000_000))
    print(f"KILL_SEED={seed}")  # noqa: T201 - pytest shows it with a failure
    url = postgres.empty()
    workers = Workers(tmp_path, url, SHORT_LEASE)
    with workers.sleeper.gone_at_the_end(), workers.heir.gone_at_the_end():
        workers.start()
        stopped = workers.stop_and_wake(STOPPED_SECONDS, seed)
    postgres.drop(url)
    assert stopped.taken_over
    assert stopped.violations() == []


# ── the same in one process, on both databases, for every way a call can end ────────────────


@dataclass
class Bench:
    """One job, and the components of two workers that claim it."""

    db: Database
    store: LocalStore
    job_id: str

    def worker(self, engine: ScriptedEngine) -> Transcriber:
        return Transcriber(
            self.db,
            self.store,
            {engine.name: engine},
            SourceFetcher(
                self.db,
                self.store,
                Fetcher(FetchSettings()),
                planner=Planner(
                    load_catalogue(str(CATALOGUE)), {engine.name: engine}, Settings(_env_file=None)
                ),
                decoders=Decoders(AudioSettings()),
                settings=AudioSettings(),
                at_once=1,
                clock=utc_now,
            ),
            decoders=Decoders(AudioSettings()),
            hub=StreamHub(self.db, utc_now),
            max_seconds=MAX_SECONDS,
            settings=JobSettings(lease_seconds=NEVER_RENEWED_SECONDS),
            clock=utc_now,
            links=SignedLinks("", [b"secret"]),
        )


@asynccontextmanager
async def bench(url: str, folder: Path) -> AsyncIterator[Bench]:
    async with open_database(url) as db:
        store = LocalStore(folder, AudioSettings())
        upload = await store.begin(SPEECH.stat().st_size)
        await upload.write(SPEECH.read_bytes())
        now = utc_now()
        project = await db.write(ensure_project, DEFAULT_PROJECT, now=now)
        price = PriceRow("m", "test", "second", NANO_PER_SECOND, "CNY", now, None, "made up")
        await db.write(load_prices, [price])
        blob = await upload.finish(project)
        submitted = await db.write(
            create_job,
            Principal(project, None, ALL_SCOPES),
            NewAudio(blob.sha256, blob.bytes, blob.key, "wav", "pcm_s16le", 1, 16_000, 10_390),
            JobSpec("m", "scripted", "test", "auto", JobOptions(), PLAN, 13_000),
            now=now,
        )
        yield Bench(db, store, submitted.job_id)


PLAN = JobPlan("split", 4, "short parts", upstream_model="short", min_speech_ms=250)


async def until_called(engine: ScriptedEngine) -> None:
    async with asyncio.timeout(30):
        while not engine.calls:
            await asyncio.sleep(0.01)


def expire_lease(tx: sa.Connection) -> None:
    """Expire the lease, as time does while a worker is stopped."""
    tx.execute(sa.update(transcription).values(lease_until=utc_now() - AGES_AGO))


LOST = EngineError(ErrorKind.NETWORK, "cut off", retryable=True, billed=Billed.MAYBE)


@pytest.mark.anyio
@pytest.mark.parametrize("woken_by", ["answer", "failure", "cancellation"])
@pytest.mark.parametrize("heir_is", ["at work", "done"])
async def test_a_run_whose_lease_expired_writes_nothing(
    database_url: str, tmp_path: Path, woken_by: str, heir_is: str
) -> None:
    """While the second worker runs the job, only the epoch distinguishes the two runs."""
    bill = tmp_path / "bill.jsonl"
    async with bench(database_url, tmp_path / "audio") as given:
        slow = ScriptedEngine(bill=bill, gate=asyncio.Event(), text="too late")
        fast = ScriptedEngine(bill=bill, gate=asyncio.Event())
        slow.max_concurrent_calls = fast.max_concurrent_calls = (
            1  # so that all stands still until woken
        )
        sleeping = asyncio.create_task(given.worker(slow).advance(given.job_id))
        await until_called(slow)
        await given.db.write(expire_lease)
        inheriting = asyncio.create_task(given.worker(fast).advance(given.job_id))
        await until_called(fast)
        if heir_is == "done":
            fast.gate.set()
            await inheriting
        before = await given.db.read(snapshot)

        if woken_by == "failure":
            slow.late_error = LOST
        if woken_by == "cancellation":
            sleeping.cancel()
        slow.gate.set()
        await asyncio.gather(sleeping, return_exceptions=True)

        assert await given.db.read(snapshot) == before
        fast.gate.set()
        assert await inheriting is None
    records = JobRecords(await read_rows(database_url))
    assert len(slow.calls) == 1
    assert list(records.violations()) == []
    assert list(records.bill_violations(billed_seconds(bill))) == []
    assert records.statuses == {"completed": 1}
