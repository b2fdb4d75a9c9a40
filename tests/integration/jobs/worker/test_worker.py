"""The runner: slots, room, and callers who wait while the gateway closes.

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
PATIENCE_SECONDS = 5  # far below every wait that is asked for here
WAIT = "60"


@asynccontextmanager
async def closing_well(gateway: Gateway) -> AsyncIterator[None]:
    """Let the engine answer at the end, so that no test waits for the grace of a shutdown."""
    gateway.engine.gate = asyncio.Event()
    try:
        yield
    finally:
        gateway.engine.gate.set()


async def until_called(gateway: Gateway) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not gateway.engine.calls:
            await asyncio.sleep(0.01)


# ── slots ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.settings(jobs={"max_concurrent_jobs": 1})
async def test_a_job_that_another_worker_holds_keeps_no_slot(
    gateway: Gateway, recording: bytes
) -> None:
    held = await Scenario.create(gateway.services.db, lease_seconds=3600)
    assert await hand_out(gateway, held)
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await gateway.send(recording)).status_code == 200
    assert (await held.row())["run_epoch"] == 1


@pytest.mark.settings(jobs={"max_concurrent_jobs": 1})
async def test_jobs_beyond_the_slots_wait_for_their_turn(
    gateway: Gateway, recording: bytes
) -> None:
    async with closing_well(gateway):
        first = await gateway.send(recording, wait="0")
        await until_called(gateway)
        second = await gateway.send(recording, wait="0")
        assert [first.json()["status"], second.json()["status"]] == ["processing", "queued"]
        assert len(gateway.engine.calls) == 1
    for sent in (first, second):
        assert (await gateway.ended(sent.json()["id"]))["status"] == "completed"


async def test_a_job_of_this_process_is_not_taken_up_twice(
    gateway: Gateway, recording: bytes
) -> None:
    async with closing_well(gateway):
        scenario = await queued(gateway, recording)
        assert await hand_out(gateway, scenario)
        assert not await hand_out(gateway, scenario)
    assert (await gateway.ended(scenario.id))["status"] == "completed"
    assert len(gateway.engine.calls) == 1


@dataclass
class Resting:
    """Puts every job off once, as while an upstream is left alone; then each begins and waits."""

    put_off: set[str] = field(default_factory=set)
    begun: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def advance(self, job_id: str, _claimed: object) -> timedelta | None:
        if job_id != "urgent" and job_id not in self.put_off:
            self.put_off.add(job_id)
            return timedelta(seconds=1)
        self.begun.append(job_id)
        await self.gate.wait()
        return None


async def test_who_was_put_off_for_a_moment_keeps_no_urgent_one_waiting(db: Database) -> None:
    """Held jobs that wake without a slot go back: the queue knows who is next, and who can."""
    there: Any = Resting()
    runner = Worker(db, cast("Transcriber", there), JobSettings(max_concurrent_jobs=1))
    await runner.open()
    others = [f"job{n}" for n in range(30)]
    async with asyncio.timeout(PATIENCE_SECONDS * 4):
        for one in others:
            await runner.put(one, "split", 0)
        while there.put_off != set(others) or not there.begun or len(runner._jobs.here) > 1:
            await asyncio.sleep(0.01)
        assert not runner.reserve_slot("split")  # others wait: nobody who comes now is before them
        await runner.put("urgent", "split", 100)
        there.gate.set()
        while len(there.begun) < len(others) + 1:
            await asyncio.sleep(0.01)
    await runner.drain(0)
    assert there.begun[1] == "urgent"
    assert sorted(there.begun) == sorted([*others, "urgent"])


# ── room ────────────────────────────────────────────────────────────────────────────────────


async def assert_refused_unread(gateway: Gateway, told: tuple[int, str]) -> None:
    """Send a body that tells whether anybody asked for it."""
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
async def test_too_many_jobs_are_told_before_the_body_is_read(
    gateway: Gateway, recording: bytes
) -> None:
    async with closing_well(gateway):
        await gateway.send(recording, wait="0")
        await assert_refused_unread(gateway, (429, "too_many_jobs"))
        assert len(await gateway.rows(transcription)) == 1


async def test_so_is_the_end_of_the_gateway(gateway: Gateway) -> None:
    gateway.app.state.begin_shutdown()
    await assert_refused_unread(gateway, (503, "shutting_down"))
    assert gateway.blobs() == []


@pytest.mark.settings(jobs={"max_sync_callers": 1})
async def test_found_jobs_take_no_room_from_callers(gateway: Gateway, recording: bytes) -> None:
    async with closing_well(gateway):
        scenario = await queued(gateway, recording)
        await hand_out(gateway, scenario)
        assert (await gateway.send(recording, wait="0")).status_code == 202


# ── the end ─────────────────────────────────────────────────────────────────────────────────


async def test_a_caller_who_waits_is_told_where_to_ask_again(
    gateway: Gateway, recording: bytes
) -> None:
    async with closing_well(gateway):
        waiting = asyncio.create_task(gateway.send(recording, wait=WAIT))
        await until_called(gateway)
        gateway.services.worker.begin_closing(GRACE_SECONDS)
        async with asyncio.timeout(PATIENCE_SECONDS):
            response = await waiting
    assert response.status_code == 202
    assert response.headers["location"] == f"{PATH}/{response.json()['id']}"


async def test_so_is_one_whose_upload_was_under_way(
    database_url: str, engine: ScriptedEngine, tmp_path: Path, recording: bytes
) -> None:
    """Its wait begins after the closing did."""
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
            async with asyncio.timeout(PATIENCE_SECONDS):
                response = await waiting
    assert response.status_code == 202
    assert response.headers["location"].startswith(PATH)


async def test_a_short_wait_is_not_made_longer(gateway: Gateway) -> None:
    held = await Scenario.create(gateway.services.db, lease_seconds=3600)
    started = time.monotonic()
    waiting = asyncio.create_task(gateway.services.worker.wait(held.id, GRACE_SECONDS))
    await asyncio.sleep(0)
    gateway.services.worker.begin_closing(60)
    assert await waiting is False
    assert await gateway.services.worker.wait(held.id, GRACE_SECONDS) is False
    assert time.monotonic() - started < PATIENCE_SECONDS


async def test_closing_while_a_wait_runs_out_shortens_the_others(
    database_url: str, engine: ScriptedEngine, tmp_path: Path
) -> None:
    """A wait whose time is over takes a last look, and cannot be rescheduled any more."""
    last_look = DatabaseFault("has_ended", "never", times=2, gate=asyncio.Event())
    with unreliable_database() as faults:
        async with running(settings_for(database_url, tmp_path / "data"), engine) as gateway:
            runner = gateway.services.worker
            held = await Scenario.create(gateway.services.db, lease_seconds=3600)
            others = [asyncio.create_task(runner.wait(held.id, 60)) for _ in range(8)]
            await asyncio.sleep(0.1)
            faults.append(last_look)
            late = asyncio.create_task(runner.wait(held.id, 0.1))
            while last_look.times:
                await asyncio.sleep(0.01)
            runner.begin_closing(GRACE_SECONDS)
            assert last_look.gate is not None
            last_look.gate.set()
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await asyncio.gather(late, *others) == [False] * 9


async def test_a_drained_runner_hands_its_jobs_back(
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


async def test_a_job_of_the_queue_goes_back_to_it_at_the_end_of_the_grace(
    database_url: str, engine: ScriptedEngine, tmp_path: Path, recording: bytes
) -> None:
    engine.gate = asyncio.Event()
    seldom = {
        "maintenance_interval_seconds": 3600
    }  # so that nothing but the queue can bring the job back
    settings = settings_for(
        database_url, tmp_path / "data", server={"shutdown_seconds": 0}, jobs=seldom
    )
    async with running(settings, engine) as gateway:
        sent = await gateway.send(recording, mode="async")
        await until_called(gateway)
        began = time.monotonic()
    assert time.monotonic() - began < PATIENCE_SECONDS
    engine.gate.set()
    settings = settings_for(database_url, tmp_path / "data", jobs=seldom)
    async with running(settings, engine) as heir, asyncio.timeout(PATIENCE_SECONDS):
        assert (await heir.ended(sent.json()["id"]))["status"] == "completed"
    assert len(engine.calls) == 2


async def test_a_job_begun_for_its_caller_comes_into_the_queue_then(
    shared_url: str, engine: ScriptedEngine, tmp_path: Path, recording: bytes
) -> None:
    """Another replica goes on with it at once, not when it happens to look for forsaken jobs."""
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
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await heir.ended(sent.json()["id"]))["status"] == "completed"
    assert len(engine.calls) == 2


# ── processes that share the work ───────────────────────────────────────────────────────────


async def test_who_only_serves_lets_others_work_and_its_callers_wait(
    shared_url: str, engine: ScriptedEngine, tmp_path: Path, recording: bytes
) -> None:
    only_serves = settings_for(shared_url, tmp_path / "data", jobs={"worker": False})
    async with running(only_serves, engine) as front:
        waiting = asyncio.create_task(front.send(recording))
        await asyncio.sleep(0.3)
        assert [row["status"] for row in await front.rows(transcription)] == ["queued"]
        async with running(settings_for(shared_url, tmp_path / "data"), engine):
            async with asyncio.timeout(PATIENCE_SECONDS):
                response = await waiting
        assert (response.status_code, response.json()["text"]) == (200, "heard")


async def test_alone_with_its_database_a_process_always_works(
    engine: ScriptedEngine, tmp_path: Path, recording: bytes
) -> None:
    settings = settings_for(
        f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path / "data", jobs={"worker": False}
    )
    async with running(settings, engine) as gateway:
        assert (await gateway.send(recording, mode="sync")).status_code == 200
        sent = await gateway.send(recording, mode="async")
        assert (await gateway.ended(sent.json()["id"]))["status"] == "completed"
