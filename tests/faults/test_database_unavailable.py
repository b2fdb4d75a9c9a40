"""The database is unavailable for a time: the job continues and is paid once.

Covers: app.jobs.store.durable_write
"""

import asyncio
import io
import time
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.audio.tables import audio
from app.billing.tables import ledger_line
from app.db.connect import make_database
from app.errors import DatabaseUnavailable
from app.jobs.tables import transcription, upstream_call
from app.speech.engine import Billed, EngineError, ErrorKind
from tests.support.gateway import Gateway, code_of, running, settings_for, speech
from tests.support.job_records import JobRecords, snapshot
from tests.support.queued_job import hand_out, queued
from tests.support.scripted_engine import ScriptedEngine
from tests.support.unreliable_database import DatabaseFault, When, unreliable_database

pytestmark = pytest.mark.anyio
PATH = "/v1/transcriptions"
QUICK = {"lease_seconds": 1, "maintenance_interval_seconds": 0.1}
TIMEOUT_SECONDS = 20
BOTH = pytest.mark.parametrize("when", ["before", "after"])

Start = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.store.durable_write.DATABASE_PAUSE_SECONDS", 0.05)


@pytest.fixture
def start(database_url: str, engine: ScriptedEngine, tmp_path: Path) -> Start:
    """Start a gateway with these faults of its database. A later gateway has the same data."""

    @asynccontextmanager
    async def starting(*faults: DatabaseFault, **domains: dict[str, Any]) -> AsyncIterator[Gateway]:
        with unreliable_database(*faults):
            async with running(
                settings_for(database_url, tmp_path / "data", **domains), engine
            ) as gateway:
                yield gateway

    return starting


async def books_of(gateway: Gateway) -> JobRecords:
    return JobRecords(await gateway.services.db.read(snapshot))


async def assert_kept_and_paid_once(gateway: Gateway, calls: int = 1) -> None:
    records = await books_of(gateway)
    assert list(records.violations()) == []
    assert records.statuses == {"completed": 1}
    assert len(gateway.engine.calls) == len(records.rows["upstream_call"]) == calls
    kinds = [line["kind"] for line in records.rows["ledger_line"]]
    assert (kinds.count("settle"), kinds.count("release")) == (calls, 1)


async def until_ended(gateway: Gateway, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        (row,) = await gateway.rows(transcription, id=job_id)
        if row["completed_at"] is not None:
            return row
        assert time.monotonic() < deadline, row
        await asyncio.sleep(0.02)


def silence(seconds: int = 3) -> bytes:
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(32_000 * seconds))
    return made.getvalue()


# ── an answer is there and has to be kept ───────────────────────────────────────────────────


@BOTH
async def test_storing_an_answer_waits_for_the_database(
    start: Start, recording: bytes, when: When
) -> None:
    async with start(DatabaseFault("commit_part", when)) as gateway:
        response = await gateway.send(recording)
        assert (response.status_code, response.json()["text"]) == (200, "heard")
        await assert_kept_and_paid_once(gateway)


@BOTH
async def test_storing_a_part_of_long_audio_waits_for_the_database(
    start: Start, when: When
) -> None:
    async with start(DatabaseFault("commit_part", when, times=3)) as gateway:
        response = await gateway.send(speech(9), model="scripted/short")
        assert response.status_code == 200, response.text
        await assert_kept_and_paid_once(gateway, calls=response.json()["text"].count("heard"))
        assert len(gateway.engine.calls) > 1


@BOTH
async def test_completing_a_silent_job_waits_for_the_database(start: Start, when: When) -> None:
    async with start(DatabaseFault("commit_completion", when)) as gateway:
        response = await gateway.send(silence())
        assert (response.status_code, response.json()["text"]) == (200, "")
        await assert_kept_and_paid_once(gateway, calls=0)


@BOTH
@pytest.mark.parametrize("work", ["close_failed", "fail"])
async def test_a_failed_job_keeps_the_error_of_its_engine(
    start: Start, recording: bytes, when: When, work: str
) -> None:
    async with start(DatabaseFault(work, when)) as gateway:
        gateway.engine.errors = [EngineError(ErrorKind.MALFORMED, "x", billed=Billed.YES)]
        assert code_of(await gateway.send(recording)) == (502, "engine_failed")
        lines = [line["kind"] for line in await gateway.rows(ledger_line)]
        assert lines == ["hold", "settle", "release"]
        assert len(gateway.engine.calls) == 1


@BOTH
@pytest.mark.parametrize("seconds", [2, 9])
async def test_a_run_that_is_cancelled_meanwhile_loses_nothing(
    start: Start, when: When, seconds: int
) -> None:
    gate = asyncio.Event()
    fault = DatabaseFault("commit_part", when, gate=gate)
    async with start(
        fault, server={"shutdown_seconds": 0}, jobs={"max_concurrent_parts": 1}
    ) as gateway:
        sent = await gateway.send(speech(seconds), model="scripted/short", wait="0")
        await asyncio.wait_for(fault.met.wait(), TIMEOUT_SECONDS)
        asyncio.get_running_loop().call_later(0.2, gate.set)  # by then the run is cancelled
    async with start(jobs=QUICK) as heir:
        await until_ended(heir, sent.json()["id"])
        words = (await heir.get(sent.headers["location"])).json()["text"]
        await assert_kept_and_paid_once(heir, calls=words.count("heard"))


@BOTH
async def test_waiting_answers_are_stored_when_the_run_is_cancelled(
    start: Start, when: When
) -> None:
    """All parts are answered, and the others wait while the first is stored."""
    gate = asyncio.Event()
    fault = DatabaseFault("commit_part", when, gate=gate)
    async with start(fault, server={"shutdown_seconds": 0}) as gateway:
        sent = await gateway.send(speech(9), model="scripted/short", wait="0")
        await asyncio.wait_for(fault.met.wait(), TIMEOUT_SECONDS)
        await until_answered(gateway, 3)
        asyncio.get_running_loop().call_later(0.2, gate.set)
    async with start(jobs=QUICK) as heir:
        await until_ended(heir, sent.json()["id"])
        await assert_kept_and_paid_once(heir, calls=3)


async def until_answered(gateway: Gateway, calls: int) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while len(gateway.engine.calls) < calls:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)  # the engine answers at once: only a thread has to run


async def test_a_gateway_closes_without_its_database(start: Start, recording: bytes) -> None:
    """A result that could not be stored is in doubt, as after a crash."""
    faults = [
        DatabaseFault("commit_part", times=1_000_000),
        DatabaseFault("release_run", times=1_000_000),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.jobs.store.durable_write.LAST_WRITE_SECONDS", 0.3)
        async with start(*faults, server={"shutdown_seconds": 0}) as gateway:
            sent = await gateway.send(recording, wait="0")
            await asyncio.wait_for(faults[0].met.wait(), TIMEOUT_SECONDS)
            closing = time.monotonic()
    assert time.monotonic() - closing < 3
    async with start(jobs=QUICK) as heir:
        await heir.services.db.write(
            lambda tx: tx.execute(sa.update(transcription).values(lease_until=None))
        )
        assert (await until_ended(heir, sent.json()["id"]))["status"] == "completed"
        states = [call["state"] for call in await heir.rows(upstream_call)]
        assert states == ["in_doubt", "answered"]
        assert list((await books_of(heir)).violations()) == []


# ── at the beginning and on the way ─────────────────────────────────────────────────────────


@BOTH
@pytest.mark.parametrize("work", ["_claim", "open_call"])
async def test_a_claim_that_failed_is_repeated(
    start: Start, recording: bytes, when: When, work: str
) -> None:
    async with start(DatabaseFault(work, when), jobs=QUICK) as gateway:
        scenario = await queued(gateway, recording)
        await hand_out(gateway, scenario)
        assert (await until_ended(gateway, scenario.id))["status"] == "completed"
        assert list((await books_of(gateway)).violations()) == []
        assert len(gateway.engine.calls) == 1


async def test_a_failed_lease_renewal_does_not_end_the_run(start: Start, recording: bytes) -> None:
    fault = DatabaseFault("renew", times=9)
    async with start(fault, jobs={**QUICK, "maintenance_interval_seconds": 60}) as gateway:
        gateway.engine.delay_seconds = 1.5
        assert (await gateway.send(recording)).status_code == 200
        assert fault.met.is_set()
        await assert_kept_and_paid_once(gateway)


async def test_a_server_that_drops_every_connection_delays_the_job(
    start: Start, recording: bytes, database_url: str
) -> None:
    if database_url.startswith("sqlite"):
        pytest.skip("a file has no connections to drop")
    async with start(jobs=QUICK) as gateway:
        gateway.engine.gate = asyncio.Event()
        sending = asyncio.create_task(gateway.send(recording))
        while not gateway.engine.calls:
            await asyncio.sleep(0.01)
        other = make_database(database_url)
        await other.open()
        others = "FROM pg_stat_activity WHERE datname = current_database()"
        await other.write(
            lambda tx: tx.execute(
                sa.text(f"SELECT pg_terminate_backend(pid) {others} AND pid <> pg_backend_pid()")
            )
        )
        await other.close()
        gateway.engine.gate.set()
        assert (await sending).status_code == 200
        await assert_kept_and_paid_once(gateway)


# ── answers to callers ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("work", ["has_ended", "find_job"])
async def test_a_waiting_caller_receives_the_id_of_the_accepted_job(
    start: Start, recording: bytes, work: str
) -> None:
    async with start(DatabaseFault(work)) as gateway:
        response = await gateway.send(recording)
        assert code_of(response) == (503, "database_unavailable")
        assert response.json()["retryable"] is True
        job = await until_ended(gateway, response.json()["transcription_id"])
        assert job["status"] == "completed"
        await assert_kept_and_paid_once(gateway)


@BOTH
async def test_a_submission_with_unknown_outcome_keeps_its_audio(
    start: Start, recording: bytes, when: When
) -> None:
    async with start(
        DatabaseFault("create_job", when), jobs={**QUICK, "max_concurrent_jobs": 1}
    ) as gateway:
        response = await gateway.send(recording)
        assert code_of(response) == (503, "database_unavailable")
        assert len(gateway.blobs()) == 1
        jobs = await gateway.rows(transcription)
        assert len(jobs) == (when == "after")
        for job in jobs:  # it was committed as claimed: its lease ends first
            assert (await until_ended(gateway, job["id"]))["status"] == "completed"
        assert (await gateway.send(recording)).status_code == 200, "the slot was given back"
        assert len(await gateway.rows(audio)) == 1
        assert list((await books_of(gateway)).violations()) == []


@pytest.mark.parametrize("path", ["", "/tr_" + "0" * 32])
async def test_a_reader_receives_503_with_retry_after(start: Start, path: str) -> None:
    async with start(DatabaseFault("find_job"), DatabaseFault("list_jobs")) as gateway:
        assert code_of(await gateway.get(PATH + path)) == (503, "database_unavailable")
        assert (await gateway.get(PATH + path)).status_code in {200, 404}


async def test_a_key_is_valid_although_its_use_could_not_be_stored(start: Start) -> None:
    fault = DatabaseFault("touch", error=DatabaseUnavailable())
    async with start(fault) as gateway:
        assert (await gateway.get(PATH, key=await gateway.key())).status_code == 200
        assert fault.met.is_set()
