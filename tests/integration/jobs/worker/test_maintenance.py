"""Maintenance of a running gateway: stalled jobs, purges, orphaned blobs and invariants.

Covers: app.jobs.worker.maintenance
"""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.audio.tables import audio
from app.db.time_limits import StatementTimeoutError
from app.errors import DatabaseUnavailable
from app.jobs.invariants import INVARIANTS
from app.jobs.store.runs import MAX_RUNS_WITHOUT_PROGRESS
from app.jobs.tables import transcript, transcription, upstream_call
from app.jobs.worker import maintenance
from app.jobs.worker.maintenance import ORPHAN_AGE_SECONDS
from tests.support.captured_log import capture_logs
from tests.support.gateway import Gateway, code_of, running, settings_for, speech
from tests.support.queued_job import hand_out, queued
from tests.support.scripted_engine import ScriptedEngine
from tests.support.unreliable_database import DatabaseFault, unreliable_database

pytestmark = pytest.mark.anyio
OFTEN = {"maintenance_interval_seconds": 0.1}
TIMEOUT_SECONDS = 20
HEX = "ab" + "0" * 62


async def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (
        value := await condition() if asyncio.iscoroutinefunction(condition) else condition()
    ):
        assert time.monotonic() < deadline, value
        await asyncio.sleep(0.02)


async def row_of(gateway: Gateway, job_id: str) -> dict[str, Any]:
    (row,) = await gateway.rows(transcription, id=job_id)
    return row


async def status_of(gateway: Gateway, job_id: str) -> str:
    return str((await row_of(gateway, job_id))["status"])


async def is_purged(gateway: Gateway, audio_id: str) -> bool:
    (row,) = await gateway.rows(audio, id=audio_id)
    return row["purged_at"] is not None


def path_of(gateway: Gateway, blob_key: str) -> Path:
    return gateway.settings.data_dir / "audio" / "blobs" / blob_key


# ── rounds ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("work", ["find_stalled", "pending_purges"])
@pytest.mark.parametrize(
    "error", [DatabaseUnavailable(), ValueError("canary"), OSError(5, "canary")]
)
async def test_maintenance_continues_after_any_error(
    database_url: str,
    engine: ScriptedEngine,
    tmp_path: Path,
    recording: bytes,
    capsys: pytest.CaptureFixture[str],
    work: str,
    error: Exception,
) -> None:
    fault = DatabaseFault(work, times=3, error=error)
    settings = settings_for(database_url, tmp_path / "data", jobs=OFTEN)
    with unreliable_database(fault):
        async with running(settings, engine) as gateway:
            await until(lambda: fault.times == 0)
            scenario = await queued(gateway, recording)
            await until_completed(gateway, scenario.id)
    said = capsys.readouterr().err
    assert said.count("maintenance.failed") == 3
    assert "canary" not in said


async def until_completed(gateway: Gateway, job_id: str) -> None:
    async def is_completed() -> bool:
        return await status_of(gateway, job_id) == "completed"

    await until(is_completed)


@pytest.mark.settings(jobs=OFTEN)
async def test_a_stalled_job_is_requeued(gateway: Gateway, recording: bytes) -> None:
    with capture_logs() as logged:
        scenario = await queued(gateway, recording, lease_seconds=0.5)
        await asyncio.sleep(0.25)
        assert await status_of(gateway, scenario.id) == "processing"
        await until_completed(gateway, scenario.id)
    lines = [(line["count"], line["jobs"]) for line in logged if line["event"] == "jobs.requeued"]
    assert lines == [(1, [scenario.id])]
    assert (await row_of(gateway, scenario.id))["run_epoch"] == 2
    assert len(gateway.engine.calls) == 1


# ── invariants ──────────────────────────────────────────────────────────────────────────────


async def test_a_violated_invariant_is_logged_and_a_slow_check_is_skipped(
    database_url: str,
    engine: ScriptedEngine,
    tmp_path: Path,
    recording: bytes,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(maintenance, "INVARIANTS_INTERVAL_SECONDS", 0.0)
    checks = DatabaseFault("find_violations", "never", times=2 * len(INVARIANTS))
    slow = DatabaseFault("find_violations", error=StatementTimeoutError("made up"))
    settings = settings_for(database_url, tmp_path / "data", jobs=OFTEN)
    with unreliable_database(slow, checks):
        async with running(settings, engine) as gateway:
            job_id = (await gateway.send(recording)).json()["id"]
            await until(lambda: checks.times == 0)
            logged = capsys.readouterr().err
            assert logged.count("invariant.not_checked") == 1
            assert "invariant.violated" not in logged
            await gateway.services.db.write(lambda tx: tx.execute(sa.delete(transcript)) and None)

            def is_logged() -> bool:
                nonlocal logged
                logged += capsys.readouterr().err
                return "invariant.violated" in logged

            await until(is_logged)
    (line, *_) = [line for line in logged.splitlines() if "invariant.violated" in line]
    assert "a completed transcription has a transcript" in line
    assert job_id in line


# ── a recording that is not there ───────────────────────────────────────────────────────────


@pytest.mark.settings(jobs=OFTEN)
async def test_a_job_whose_audio_is_unreadable_waits_until_it_is_back(
    gateway: Gateway, recording: bytes, tmp_path: Path
) -> None:
    gateway.engine.gate = asyncio.Event()
    scenario = await queued(gateway, recording, lease_seconds=0.3)
    (stored,) = await gateway.rows(audio)
    away = path_of(gateway, stored["blob_key"]).rename(tmp_path / "away")

    async def was_tried() -> bool:
        return bool((await row_of(gateway, scenario.id))["runs_without_progress"] >= 3)

    await until(was_tried)
    assert await status_of(gateway, scenario.id) == "processing"
    response = await gateway.get(f"/v1/transcriptions/{scenario.id}/audio")
    assert code_of(response) == (503, "audio_storage_error")

    away.rename(path_of(gateway, stored["blob_key"]))
    gateway.engine.gate.set()
    await until_completed(gateway, scenario.id)
    response = await gateway.get(f"/v1/transcriptions/{scenario.id}/audio")
    assert (response.status_code, response.content) == (200, recording)
    assert [call["state"] for call in await gateway.rows(upstream_call)] == ["answered"]


async def test_a_job_whose_audio_stays_unreadable_fails(gateway: Gateway, recording: bytes) -> None:
    scenario = await queued(gateway, recording)
    (stored,) = await gateway.rows(audio)
    path_of(gateway, stored["blob_key"]).unlink()

    async def handed_out() -> bool:
        # A run commits the end of its lease just before it ends; until then it is not requeued.
        return await hand_out(gateway, scenario)

    for round_ in range(1, MAX_RUNS_WITHOUT_PROGRESS + 1):
        await until(handed_out)
        now_idle = ("processing", round_, None)

        async def was_idle(expected: tuple[Any, ...] = now_idle) -> bool:
            row = await row_of(gateway, scenario.id)
            return (row["status"], row["runs_without_progress"], row["lease_until"]) == expected

        await until(was_idle)
    await until(handed_out)
    await gateway.services.worker.wait(scenario.id, TIMEOUT_SECONDS)
    row = await row_of(gateway, scenario.id)
    assert (row["status"], row["error"]["code"]) == ("failed", "run_crashed")
    assert gateway.engine.calls == []


# ── bytes that have to go ───────────────────────────────────────────────────────────────────


def make_immovable(path: Path) -> None:
    """Replace a blob by a folder, which cannot be unlinked even by root."""
    path.unlink()
    (path / "inside").mkdir(parents=True)


@pytest.mark.settings(jobs=OFTEN)
async def test_audio_that_cannot_be_deleted_delays_no_other_purge(
    gateway: Gateway, recording: bytes
) -> None:
    jobs = [(await gateway.send(sound)).json()["id"] for sound in (recording, speech(1.5))]
    audios = [(await row_of(gateway, job))["audio_id"] for job in jobs]
    (stuck,) = await gateway.rows(audio, id=audios[0])
    place = path_of(gateway, stuck["blob_key"])
    make_immovable(place)
    for job in jobs:
        response = await gateway.client.delete(f"/v1/transcriptions/{job}")
        assert (response.status_code, response.content) == (204, b"")
    assert await is_purged(gateway, audios[1])
    assert not await is_purged(gateway, audios[0])

    (place / "inside").rmdir()
    place.rmdir()

    async def is_gone() -> bool:
        return await is_purged(gateway, audios[0])

    await until(is_gone)


@pytest.mark.parametrize("stays", [0, 1])
@pytest.mark.settings(jobs=OFTEN)
async def test_one_failed_purge_does_not_stop_the_others(
    gateway: Gateway, recording: bytes, stays: int
) -> None:
    for sound in (recording, speech(1.5)):
        await gateway.send(sound)
    stored = await gateway.rows(audio)
    places = [path_of(gateway, row["blob_key"]) for row in stored]
    for place, job in zip(places, await gateway.rows(transcription), strict=True):
        make_immovable(place)
        await gateway.client.delete(f"/v1/transcriptions/{job['id']}")
    assert not any([await is_purged(gateway, row["id"]) for row in stored])
    goes = 1 - stays
    (places[goes] / "inside").rmdir()
    places[goes].rmdir()

    async def is_gone() -> bool:
        return await is_purged(gateway, stored[goes]["id"])

    await until(is_gone)
    assert not await is_purged(gateway, stored[stays]["id"])


async def test_an_erase_succeeds_although_the_purge_is_not_noted(
    database_url: str, engine: ScriptedEngine, tmp_path: Path, recording: bytes
) -> None:
    settings = settings_for(database_url, tmp_path / "data", jobs=OFTEN)
    fault = DatabaseFault("mark_purged", times=3)
    with unreliable_database(fault):
        async with running(settings, engine) as gateway:
            job = (await gateway.send(recording)).json()["id"]
            response = await gateway.client.delete(f"/v1/transcriptions/{job}")
            assert response.status_code == 204
            assert gateway.blobs() == []
            (row,) = await gateway.rows(audio)

            async def is_gone() -> bool:
                return await is_purged(gateway, row["id"])

            await until(is_gone)
            assert fault.times == 0


# ── bytes that nobody owns ──────────────────────────────────────────────────────────────────


def aged(path: Path, seconds: float) -> Path:
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def put(blobs: Path, tail: str, age_seconds: float) -> Path:
    path = blobs / "prj_x" / "ab" / f"{HEX}-{tail * 8}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"nobody's")
    return aged(path, age_seconds)


async def test_old_blobs_without_a_row_are_removed(
    database_url: str,
    engine: ScriptedEngine,
    tmp_path: Path,
    recording: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = settings_for(database_url, tmp_path / "data", jobs=OFTEN)
    async with running(settings, engine) as gateway:
        await gateway.send(recording)
        (row,) = await gateway.rows(audio)
    blobs = tmp_path / "data" / "audio" / "blobs"
    ours = aged(blobs / row["blob_key"], 3 * ORPHAN_AGE_SECONDS)
    young = put(blobs, "1", ORPHAN_AGE_SECONDS - 60)
    stuck = put(blobs, "0", ORPHAN_AGE_SECONDS + 60)
    old = put(blobs, "2", ORPHAN_AGE_SECONDS + 60)
    make_immovable(stuck)
    aged(stuck, ORPHAN_AGE_SECONDS + 60)
    strange = [blobs / folder / "0.txt" for folder in (".", "prj_x", "prj_x/ab")]
    for path in strange:
        path.write_text("an operator's")
        aged(path, 3 * ORPHAN_AGE_SECONDS)
    async with running(settings, engine):
        await until(lambda: not old.exists())
        await asyncio.sleep(0.3)
    assert all(path.exists() for path in (ours, young, stuck, *strange))
    assert "maintenance.failed" not in capsys.readouterr().err
