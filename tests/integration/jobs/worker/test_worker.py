"""The worker: slots, capacity for callers, and shutdown.

Covers: app.jobs.execution.transcribe, app.jobs.worker.worker
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from app.db.database import Database
from app.jobs.execution.transcribe import Transcriber
from app.jobs.store.runs import QueuedJob
from app.jobs.tables import transcription
from app.jobs.worker.worker import Worker
from app.settings import JobSettings
from tests.support.gateway import Gateway, code_of, running, settings_for
from tests.support.queued_job import hand_out, queued
from tests.support.scenario import Scenario
from tests.support.scripted_engine import ScriptedEngine
from tests.support.unreliable_database import DatabaseFault, unreliable_database

pytestmark = pytest.mark.anyio
PATH = "/v1/transcriptions"
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
GRACE_SECONDS = 0.3
TIMEOUT_SECONDS = 5  # far below every requested wait
WAIT = "60"


@asynccontextmanager
async def closing_well(gateway: Gateway) -> AsyncIterator[None]:
    """Let the engine answer at the end, so that the shutdown does not use its grace period."""
    gateway.engine.gate = asyncio.Event()
    try:
        yield
    finally:
        gateway.engine.gate.set()


async def until_called(gateway: Gateway) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not gateway.engine.calls:
            await asyncio.sleep(0.01)


# ── slots ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.settings(jobs={"max_concurrent_jobs": 1})
async def test_a_job_that_another_worker_holds_takes_no_slot(
    gateway: Gateway, recording: bytes
) -> None:
    held = await Scenario.create(gateway.services.db, lease_seconds=3600)
    assert await hand_out(gateway, held)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert (await gateway.send(recording)).status_code == 200
    assert (await held.row())["run_epoch"] == 1


@pytest.mark.settings(jobs={"max_concurrent_jobs": 1})
async def test_jobs_beyond_the_slots_are_queued(gateway: Gateway, recording: bytes) -> None:
    async with closing_well(gateway):
        first = await gateway.send(recording, wait="0")
        await until_called(gateway)
        second = await gateway.send(recording, wait="0")
        assert [first.json()["status"], second.json()["status"]] == ["processing", "queued"]
        assert len(gateway.engine.calls) == 1
    for sent in (first, second):
        assert (await gateway.ended(sent.json()["id"]))["status"] == "completed"


async def test_a_running_job_is_not_started_twice(gateway: Gateway, recording: bytes) -> None:
    async with closing_well(gateway):
        scenario = await queued(gateway, recording)
        assert await hand_out(gateway, scenario)
        assert not await hand_out(gateway, scenario)
    assert (await gateway.ended(scenario.id))["status"] == "completed"
    assert len(gateway.engine.calls) == 1


@dataclass
class DeferringTranscriber:
    """Defers every job once; when it is advanced again, it runs until the gate opens."""

    deferred: set[str] = field(default_factory=set)
    begun: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def advance(self, job_id: str, _claimed: object) -> timedelta | None:
        if job_id != "urgent" and job_id not in self.deferred:
            self.deferred.add(job_id)
            return timedelta(seconds=1)
        self.begun.append(job_id)
        await self.gate.wait()
        return None


async def test_held_delayed_jobs_do_not_block_a_higher_priority(db: Database) -> None:
    """A held job whose delay ends while no slot is free goes back to the queue."""
    transcriber: Any = DeferringTranscriber()
    worker = Worker(db, cast("Transcriber", transcriber), JobSettings(max_concurrent_jobs=1))
    await worker.open()
    others = [f"job{n}" for n in range(30)]
    async with asyncio.timeout(TIMEOUT_SECONDS * 4):
        for one in others:
            await worker.put([QueuedJob(one, 0, 0, "split")])
        while (
            transcriber.deferred != set(others)
            or not transcriber.begun
            or len(worker._jobs.held) > 1
        ):
            await asyncio.sleep(0.01)
        assert not worker.reserve_slot("split")  # jobs are left in the queue and come first
        await worker.put([QueuedJob("urgent", 0, 100, "split")])
        transcriber.gate.set()
        while len(transcriber.begun) < len(others) + 1:
            await asyncio.sleep(0.01)
    await worker.drain(0)
    assert transcriber.begun[1] == "urgent"
    assert sorted(transcriber.begun) == sorted([*others, "urgent"])


# ── room ────────────────────────────────────────────────────────────────────────────────────


async def assert_refused_unread(gateway: Gateway, told: tuple[int, str]) -> None:
    """Send a request and check that it is refused before its body is read."""
    before = gateway.blobs()
    asked = []

    async def body() -> AsyncIterator[bytes]:
        asked.append(True)
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nRIFF'

    response = await gateway.client.post(PATH, content=body(), headers=FORM)
    assert code_of(response) == told
    assert int(response.headers["retry-after"]) > 0
    assert asked == []
    assert gateway.blobs() == before


@pytest.mark.settings(jobs={"max_sync_callers": 1})
async def test_too_many_jobs_are_refused_before_the_body_is_read(
    gateway: Gateway, recording: bytes
) -> None:
    async with closing_well(gateway):
        await gateway.send(recording, wait="0")
        await assert_refused_unread(gateway, (429, "too_many_jobs"))
        assert len(await gateway.rows(transcription)) == 1


async def test_a_closing_gateway_refuses_before_the_body_is_read(gateway: Gateway) -> None:
    gateway.app.state.begin_shutdown()
    await assert_refused_unread(gateway, (503, "shutting_down"))
    assert gateway.blobs() == []


@pytest.mark.settings(jobs={"max_sync_callers": 1})
async def test_requeued_jobs_take_no_caller_capacity(gateway: Gateway, recording: bytes) -> None:
    async with closing_well(gateway):
        scenario = await queued(gateway, recording)
        await hand_out(gateway, scenario)
        assert (await gateway.send(recording, wait="0")).status_code == 202


# ── the end ─────────────────────────────────────────────────────────────────────────────────


async def test_a_waiting_caller_gets_202_when_the_gateway_closes(
    gateway: Gateway, recording: bytes
) -> None:
    async with closing_well(gateway):
        waiting = asyncio.create_task(gateway.send(recording, wait=WAIT))
        await until_called(gateway)
        gateway.services.worker.begin_closing(GRACE_SECONDS)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            response = await waiting
    assert response.status_code == 202
    assert response.headers["location"] == f"{PATH}/{response.json()['id']}"


async def test_a_caller_whose_upload_is_in_progress_gets_202_too(
    database_url: str, engine: ScriptedEngine, tmp_path: Path, recording: bytes
) -> None:
    """The wait of this caller starts after the closing has begun."""
    submitting = DatabaseFault("create_job", "never", gate=asyncio.Event())
    with unreliable_database(submitting):
        settings = settings_for(database_url, tmp_path / "data")
        async with running(settings, engine) as gateway, closing_well(gateway):
            waiting = asyncio.create_task(gateway.send(recording, wait=WAIT))
            await submitting.met.wait()
            gateway.services.worker.begin_closing(GRACE_SECONDS)
            await asyncio.sleep(GRACE_SECONDS)
            assert submitting.gate is not None
            submitting.gate.set()
            async with asyncio.timeout(TIMEOUT_SECONDS):
                response = await waiting
    assert response.status_code == 202
    assert response.headers["location"].startswith(PATH)


async def test_closing_does_not_prolong_a_short_wait(gateway: Gateway) -> None:
    held = await Scenario.create(gateway.services.db, lease_seconds=3600)
    started = time.monotonic()
    waiting = asyncio.create_task(gateway.services.worker.wait(held.id, GRACE_SECONDS))
    await asyncio.sleep(0)
    gateway.services.worker.begin_closing(60)
    assert await waiting is False
    assert await gateway.services.worker.wait(held.id, GRACE_SECONDS) is False
    assert time.monotonic() - started < TIMEOUT_SECONDS


async def test_closing_shortens_waits_while_another_one_ends(
    database_url: str, engine: ScriptedEngine, tmp_path: Path
) -> None:
    """A wait that has timed out reads the database once more, and cannot be rescheduled."""
    last_look = DatabaseFault("has_ended", "never", times=2, gate=asyncio.Event())
    with unreliable_database() as faults:
        async with running(settings_for(database_url, tmp_path / "data"), engine) as gateway:
            worker = gateway.services.worker
            held = await Scenario.create(gateway.services.db, lease_seconds=3600)
            others = [asyncio.create_task(worker.wait(held.id, 60)) for _ in range(8)]
            await asyncio.sleep(0.1)
            faults.append(last_look)
            late = asyncio.create_task(worker.wait(held.id, 0.1))
            while last_look.times:
                await asyncio.sleep(0.01)
            worker.begin_closing(GRACE_SECONDS)
            assert last_look.gate is not None
            last_look.gate.set()
            async with asyncio.timeout(TIMEOUT_SECONDS):
                assert await asyncio.gather(late, *others) == [False] * 9


async def test_drain_releases_the_running_jobs(
    database_url: str, engine: ScriptedEngine, tmp_path: Path, recording: bytes
) -> None:
    engine.gate = asyncio.Event()
    settings = settings_for(database_url, tmp_path / "data", server={"shutdown_seconds": 0})
    async with running(settings, engine) as gateway:
        sent = await gateway.send(recording, wait="0")
        await until_called(gateway)
        await gateway.services.worker.drain(0)
        (row,) = await gateway.rows(transcription)
        assert (row["status"], row["lease_until"], row["runs_without_progress"]) == (
            "processing",
            None,
            0,
        )
    engine.gate.set()
    async with running(settings_for(database_url, tmp_path / "data"), engine) as heir:
        job = await heir.ended(sent.json()["id"])
        assert job["status"] == "completed"


async def test_drain_enqueues_the_jobs_of_the_queue_again(
    database_url: str, engine: ScriptedEngine, tmp_path: Path, recording: bytes
) -> None:
    engine.gate = asyncio.Event()
    seldom = {
        "maintenance_interval_seconds": 3600
    }  # so that only the queue can start the job again
    settings = settings_for(
        database_url, tmp_path / "data", server={"shutdown_seconds": 0}, jobs=seldom
    )
    async with running(settings, engine) as gateway:
        sent = await gateway.send(recording, mode="async")
        await until_called(gateway)
        began = time.monotonic()
    assert time.monotonic() - began < TIMEOUT_SECONDS
    engine.gate.set()
    settings = settings_for(database_url, tmp_path / "data", jobs=seldom)
    async with running(settings, engine) as heir, asyncio.timeout(TIMEOUT_SECONDS):
        assert (await heir.ended(sent.json()["id"]))["status"] == "completed"
    assert len(engine.calls) == 2


async def test_drain_enqueues_a_job_that_started_for_its_caller(
    shared_url: str, engine: ScriptedEngine, tmp_path: Path, recording: bytes
) -> None:
    """Another process continues the job at once, before its maintenance finds it stalled."""
    engine.gate = asyncio.Event()
    seldom = {"maintenance_interval_seconds": 3600}
    settings = settings_for(
        shared_url, tmp_path / "data", server={"shutdown_seconds": 0}, jobs=seldom
    )
    async with running(settings_for(shared_url, tmp_path / "data", jobs=seldom), engine) as heir:
        async with running(settings, engine) as gateway:
            sent = await gateway.send(recording, wait="0")
            await until_called(gateway)
        engine.gate.set()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert (await heir.ended(sent.json()["id"]))["status"] == "completed"
    assert len(engine.calls) == 2


# ── processes that share the work ───────────────────────────────────────────────────────────


async def test_a_process_without_a_worker_waits_for_the_jobs_of_others(
    shared_url: str, engine: ScriptedEngine, tmp_path: Path, recording: bytes
) -> None:
    only_serves = settings_for(shared_url, tmp_path / "data", jobs={"worker": False})
    async with running(only_serves, engine) as front:
        waiting = asyncio.create_task(front.send(recording))
        await asyncio.sleep(0.3)
        assert [row["status"] for row in await front.rows(transcription)] == ["queued"]
        async with running(settings_for(shared_url, tmp_path / "data"), engine):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                response = await waiting
        assert (response.status_code, response.json()["text"]) == (200, "heard")


async def test_a_process_with_its_own_database_always_works(
    engine: ScriptedEngine, tmp_path: Path, recording: bytes
) -> None:
    settings = settings_for(
        f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path / "data", jobs={"worker": False}
    )
    async with running(settings, engine) as gateway:
        assert (await gateway.send(recording, mode="sync")).status_code == 200
        sent = await gateway.send(recording, mode="async")
        assert (await gateway.ended(sent.json()["id"]))["status"] == "completed"
