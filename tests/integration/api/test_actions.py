"""Cancel and retry: their answers, their costs, and the data that remains.

Covers: app.api.v1.actions, app.jobs.cancel, app.jobs.retry
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
import sqlalchemy as sa

from app.access.principal import Scope
from app.billing.tables import ledger_line
from app.jobs.cancel import cancel
from app.jobs.tables import event, part, transcription, upstream_call
from app.speech.engine import Billed, EngineError, ErrorKind
from tests.support.captured_log import capture_logs
from tests.support.gateway import (
    NANO_PER_SECOND,
    Gateway,
    bearing,
    code_of,
    running,
    settings_for,
    speech,
)
from tests.support.job_records import JobRecords, snapshot
from tests.support.scenario import no_live_text
from tests.support.scripted_engine import ScriptedEngine
from tests.support.unreliable_database import DatabaseFault, unreliable_database

pytestmark = pytest.mark.anyio
PATH = "/v1/transcriptions"
NOBODY = "tr_" + "0" * 32
TIMEOUT_SECONDS = 10


async def act(gateway: Gateway, job_id: str, deed: str):  # noqa: ANN201
    return await gateway.client.post(f"{PATH}/{job_id}/{deed}")


async def until_called(gateway: Gateway, times: int = 1) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while len(gateway.engine.calls) < times:
            await asyncio.sleep(0.01)


async def assert_lawful(gateway: Gateway) -> JobRecords:
    records = JobRecords(await gateway.services.db.read(snapshot))
    assert list(records.violations()) == []
    assert gateway.engine.bill is not None
    return records


def garbled() -> EngineError:
    return EngineError(ErrorKind.MALFORMED, "x", billed=Billed.NO)


# ── cancel ──────────────────────────────────────────────────────────────────────────────────


async def test_cancel_ends_a_running_job_and_its_waiting_caller(
    gateway: Gateway, recording: bytes
) -> None:
    gateway.engine.gate = asyncio.Event()
    waiting = asyncio.create_task(gateway.send(recording, wait="60"))
    await until_called(gateway)
    (row,) = await gateway.rows(transcription)
    response = await act(gateway, row["id"], "cancel")
    assert response.status_code == 200
    said = response.json()
    assert said["status"] == "cancelled"
    bound = 2 * NANO_PER_SECOND  # of the one call
    assert (said["charged"]["nano"], said["in_doubt"]["nano"]) == (0, bound)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        told = await waiting
    assert (told.status_code, told.json()["status"]) == (202, "cancelled")
    (last,) = (await gateway.rows(event))[-1:]
    assert (last["type"], last["data"]["in_doubt"]["nano"]) == ("cancelled", bound)
    assert [call["state"] for call in await gateway.rows(upstream_call)] == ["in_doubt"]
    await assert_lawful(gateway)


class OnePasses(asyncio.Event):
    """A gate that lets one caller pass and then closes."""

    has_passed = False

    async def wait(self) -> Literal[True]:
        if not self.has_passed:
            self.has_passed = True
            return True
        return await super().wait()


async def test_cancel_returns_the_settled_cost(gateway: Gateway) -> None:
    gateway.engine.gate = OnePasses()
    sent = await gateway.send(speech(9), model="scripted/short", mode="async")
    job_id = sent.json()["id"]

    async def one_is_done() -> bool:
        states = [row["state"] for row in await gateway.rows(part)]
        return "done" in states and len(gateway.engine.calls) >= 2

    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not await one_is_done():
            await asyncio.sleep(0)
    response = await act(gateway, job_id, "cancel")
    assert response.json()["charged"]["nano"] > 0
    assert response.json()["charged"] == response.json()["cost"]
    await assert_lawful(gateway)


@pytest.mark.settings(jobs={"max_concurrent_jobs": 1})
async def test_cancelling_a_queued_job_costs_nothing(gateway: Gateway, recording: bytes) -> None:
    gateway.engine.gate = asyncio.Event()
    running = await gateway.send(recording, wait="0")
    queued = await gateway.send(recording, mode="async")
    with capture_logs() as logged:
        response = await act(gateway, queued.json()["id"], "cancel")
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    (line,) = [line for line in logged if line["event"] == "job.cancelled"]
    assert (line["job"], line["cause"]) == (queued.json()["id"], "request")
    assert (response.json()["charged"]["nano"], response.json()["in_doubt"]["nano"]) == (0, 0)
    gateway.engine.gate.set()
    assert (await gateway.ended(running.json()["id"]))["status"] == "completed"
    assert len(gateway.engine.calls) == 1
    await assert_lawful(gateway)


async def test_cancelling_again_changes_nothing(gateway: Gateway, recording: bytes) -> None:
    gateway.engine.gate = asyncio.Event()
    job_id = (await gateway.send(recording, wait="0")).json()["id"]
    first = await act(gateway, job_id, "cancel")
    again = await act(gateway, job_id, "cancel")
    assert (again.status_code, again.json()) == (200, first.json())
    kinds = [row["type"] for row in await gateway.rows(event)]
    assert kinds == ["created", "cancelled"]


async def test_an_ended_job_cannot_be_cancelled(gateway: Gateway, recording: bytes) -> None:
    done = (await gateway.send(recording)).json()["id"]
    response = await act(gateway, done, "cancel")
    assert code_of(response) == (409, "already_ended")
    assert "ended already: it is `completed`" in response.json()["detail"]
    assert response.json()["transcription_status"] == "completed"
    gateway.engine.errors = [garbled()]
    failed = (await gateway.send(recording)).json()["transcription_id"]
    response = await act(gateway, failed, "cancel")
    assert code_of(response) == (409, "already_ended")
    assert response.json()["transcription_status"] == "failed"
    await gateway.client.delete(f"{PATH}/{done}")
    assert code_of(await act(gateway, done, "cancel")) == (410, "erased")


@pytest.mark.parametrize("action", ["cancel", "retry"])
async def test_unknown_jobs_are_404_and_erased_jobs_410(
    gateway: Gateway, recording: bytes, action: str
) -> None:
    assert code_of(await act(gateway, NOBODY, action)) == (404, "not_found")
    key = await gateway.key()
    others = await gateway.key(project="another")
    job_id = (await gateway.send(recording, key=others)).json()["id"]
    response = await gateway.client.post(
        f"{PATH}/{job_id}/{action}", headers={"Authorization": f"Bearer {key}"}
    )
    assert code_of(response) == (404, "not_found")


# ── retry ───────────────────────────────────────────────────────────────────────────────────


async def retried(gateway: Gateway, job_id: str) -> dict[str, Any]:
    response = await act(gateway, job_id, "retry")
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"{PATH}/{job_id}"
    assert response.json()["error"] is None
    return await gateway.ended(job_id)


async def test_a_retry_of_a_failed_job_keeps_its_id(gateway: Gateway, recording: bytes) -> None:
    gateway.engine.errors = [garbled()]
    job_id = (await gateway.send(recording)).json()["transcription_id"]
    with capture_logs() as logged:
        job = await retried(gateway, job_id)
    assert (job["status"], job["text"], job["error"]) == ("completed", "heard", None)
    (line,) = [line for line in logged if line["event"] == "job.retried"]
    assert (line["job"], line["epoch"]) == (job_id, 2)
    kinds = [row["type"] for row in await gateway.rows(event)]
    assert kinds == ["created", "failed", "progress", "segment", "progress", "completed"]
    (row,) = await gateway.rows(transcription)
    assert row["retry_epoch"] == 2
    lines = (await assert_lawful(gateway)).rows["ledger_line"]
    assert [line["kind"] for line in lines if line["retry_epoch"] == 2] == [
        "hold",
        "settle",
        "release",
    ]


async def test_finished_parts_are_never_paid_again(gateway: Gateway) -> None:
    engine, sound = gateway.engine, speech(9)
    whole = (await gateway.send(sound, model="scripted/short")).json()
    parts = len(engine.calls)
    assert parts > 1
    engine.errors = [None, garbled()]
    response = await gateway.send(sound, model="scripted/short")
    assert code_of(response) == (502, "engine_failed")
    job_id = response.json()["transcription_id"]
    mine = [row for row in await gateway.rows(part) if row["transcription_id"] == job_id]
    done = sum(row["state"] == "done" for row in mine)
    assert 0 < done < parts
    calls = len(engine.calls)
    job = await retried(gateway, job_id)
    assert (job["status"], job["text"]) == ("completed", whole["text"])
    assert len(engine.calls) - calls == parts - done
    await assert_lawful(gateway)


async def test_a_retry_restarts_the_count_of_attempts(gateway: Gateway, recording: bytes) -> None:
    def lost() -> EngineError:
        return EngineError(
            ErrorKind.TIMEOUT, "x", retryable=True, billed=Billed.NO, retry_after=0.01
        )

    gateway.engine.errors = [lost() for _ in range(3)]
    job_id = (await gateway.send(recording)).json()["transcription_id"]
    assert len(gateway.engine.calls) == 3
    gateway.engine.errors = [lost() for _ in range(2)]
    assert (await retried(gateway, job_id))["status"] == "completed"
    assert len(gateway.engine.calls) == 6
    await assert_lawful(gateway)


async def test_a_released_hold_does_not_count_against_max_cost(
    gateway: Gateway, recording: bytes
) -> None:
    await gateway.send(recording)
    bound = (await gateway.rows(ledger_line, kind="hold"))[0]["nano"]
    gateway.engine.errors = [garbled()]
    limit = {"max_cost": f"{bound / 1e9:.9f}"}
    job_id = (await gateway.send(recording, **limit)).json()["transcription_id"]
    assert (await retried(gateway, job_id))["status"] == "completed"
    await assert_lawful(gateway)


@pytest.mark.settings(jobs={"in_doubt": "fail"})
async def test_a_retry_repeats_a_call_in_doubt(gateway: Gateway, recording: bytes) -> None:
    gateway.engine.late_error = EngineError(
        ErrorKind.NETWORK, "x", retryable=True, billed=Billed.MAYBE, retry_after=0.01
    )
    response = await gateway.send(recording)
    assert code_of(response) == (502, "upstream_in_doubt")
    gateway.engine.late_error = None
    job = await retried(gateway, response.json()["transcription_id"])
    assert job["status"] == "completed"
    states = [call["state"] for call in await gateway.rows(upstream_call)]
    assert states == ["in_doubt", "answered"]
    await assert_lawful(gateway)


async def test_a_retry_continues_a_cancelled_job(gateway: Gateway, recording: bytes) -> None:
    gateway.engine.gate = asyncio.Event()
    job_id = (await gateway.send(recording, wait="0")).json()["id"]
    await until_called(gateway)
    await act(gateway, job_id, "cancel")
    gateway.engine.gate.set()
    assert (await retried(gateway, job_id))["status"] == "completed"
    await assert_lawful(gateway)


async def test_a_retry_fills_the_gap_of_a_completed_job(gateway: Gateway, recording: bytes) -> None:
    job_id = (await gateway.send(recording)).json()["id"]

    def make_gap(tx: sa.Connection) -> None:
        refused = {"result": None, "error_code": "engine_refused"}
        tx.execute(sa.update(part).values(state="gap", **refused))
        tx.execute(sa.update(upstream_call).values(state="failed"))

    await gateway.services.db.write(make_gap)
    job = await retried(gateway, job_id)
    assert (job["status"], job["text"]) == ("completed", "heard")
    assert len(gateway.engine.calls) == 2


async def a_job_with_a_gap(gateway: Gateway) -> dict[str, Any]:
    """Return a completed job with a gap at its second part."""
    gateway.engine.errors = [None, garbled()]
    job: dict[str, Any] = (
        await gateway.send(speech(9), model="scripted/short", on_gap="keep")
    ).json()
    assert job["status"] == "completed", job
    assert [warning["code"] for warning in job["warnings"]] == ["gap"]
    assert job["coverage"] < 1
    return job


@pytest.mark.parametrize("end", ["failed", "cancelled"])
async def test_a_transcript_with_gaps_survives_a_failed_retry(gateway: Gateway, end: str) -> None:
    engine, job = gateway.engine, await a_job_with_a_gap(gateway)
    path, calls = f"{PATH}/{job['id']}", len(gateway.engine.calls)
    engine.gate = asyncio.Event()
    if end == "failed":
        engine.errors = [EngineError(ErrorKind.ACCOUNT, "x")]
    else:
        assert (await act(gateway, job["id"], "retry")).status_code == 202
        await until_called(gateway, calls + 1)
        # Meanwhile it is a running job like any other.
        shown = (await gateway.get(path)).json()
        assert (shown["status"], shown["text"], shown["warnings"]) == ("processing", None, [])
        told = await gateway.get(f"{path}/transcript")
        assert code_of(told) == (409, "transcription_not_finished")
        await act(gateway, job["id"], "cancel")
    engine.gate.set()
    if end == "failed":
        await retried(gateway, job["id"])
    shown = (await gateway.get(path)).json()
    assert shown["status"] == end
    same = ("text", "segments", "coverage", "warnings", "language")
    assert [shown[name] for name in same] == [job[name] for name in same]
    words = (await gateway.get(f"{path}/transcript", format="text")).text
    assert words.strip() == job["text"]
    await assert_lawful(gateway)
    # And once more, for good: the new words take the place of the old ones.
    whole = await retried(gateway, job["id"])
    assert (whole["status"], whole["coverage"], whole["warnings"]) == ("completed", 1.0, [])
    assert len(whole["text"]) > len(job["text"])
    await assert_lawful(gateway)


async def test_a_repeated_cancel_does_not_end_the_run_of_a_retry(
    gateway: Gateway, recording: bytes
) -> None:
    gateway.engine.gate = asyncio.Event()
    job_id = (await gateway.send(recording, wait="0")).json()["id"]
    await until_called(gateway)
    await act(gateway, job_id, "cancel")
    services = gateway.services
    (row,) = await gateway.rows(transcription)
    # The second cancel has read the row, and goes on when the retry has been begun with.
    cost = await services.db.write(
        cancel,
        row["project_id"],
        job_id,
        local_engines=(),
        has_live_text=no_live_text,
        now=services.clock(),
    )
    assert cost is not None
    assert (await act(gateway, job_id, "retry")).status_code == 202
    await until_called(gateway, 2)
    await services.worker.cancel_run(job_id, cost.epoch)
    gateway.engine.gate.set()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert (await gateway.ended(job_id))["status"] == "completed"
    assert len(gateway.engine.calls) == 2


async def test_a_retry_waits_for_the_end_of_the_cancelled_run(
    database_url: str, engine: ScriptedEngine, tmp_path: Path, recording: bytes
) -> None:
    """The last write of the run is slow. The retry's queue entry must not be lost meanwhile."""
    engine.gate = asyncio.Event()
    settling = DatabaseFault("commit_part", "never", gate=asyncio.Event())
    settings = settings_for(
        database_url, tmp_path / "data", jobs={"maintenance_interval_seconds": 3600}
    )
    with unreliable_database() as faults:
        async with running(settings, engine) as gateway:
            job_id = (await gateway.send(recording, wait="0")).json()["id"]
            await until_called(gateway)
            faults.append(settling)
            engine.gate.set()
            await settling.met.wait()
            await act(gateway, job_id, "cancel")
            assert (await act(gateway, job_id, "retry")).status_code == 202
            await asyncio.sleep(1.2)  # of the entry's first look
            assert settling.gate is not None
            settling.gate.set()
            async with asyncio.timeout(TIMEOUT_SECONDS):
                assert (await gateway.ended(job_id))["status"] == "completed"
            assert len(engine.calls) == 2


async def test_a_running_job_cannot_be_retried(gateway: Gateway, recording: bytes) -> None:
    gateway.engine.gate = asyncio.Event()
    job_id = (await gateway.send(recording, wait="0")).json()["id"]
    response = await act(gateway, job_id, "retry")
    assert code_of(response) == (409, "still_running")
    said = response.json()
    assert said["transcription_status"] == "processing"
    assert "it is `processing`" in said["detail"]
    assert "`completed`" not in said["title"]
    gateway.engine.gate.set()
    assert (await gateway.ended(job_id))["status"] == "completed"
    response = await act(gateway, job_id, "retry")
    assert code_of(response) == (409, "nothing_to_retry")
    await gateway.client.delete(f"{PATH}/{job_id}")
    assert code_of(await act(gateway, job_id, "retry")) == (410, "erased")


async def test_a_job_without_its_audio_cannot_be_retried(
    gateway: Gateway, recording: bytes
) -> None:
    gateway.engine.errors = [garbled()]
    job_id = (await gateway.send(recording)).json()["transcription_id"]
    for blob in gateway.blobs():
        blob.unlink()
    response = await act(gateway, job_id, "retry")
    assert code_of(response) == (503, "audio_storage_error")
    await gateway.services.db.write(
        lambda tx: tx.execute(sa.update(transcription).values(audio_id=None))
    )
    response = await act(gateway, job_id, "retry")
    assert code_of(response) == (409, "audio_deleted")
    assert "Send it again" in response.json()["detail"]


async def test_a_retry_during_a_deletion_is_answered_as_erased(
    gateway: Gateway, recording: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ATTACKS L4: the deletion ends between the retry's look at the row and at the file."""
    gateway.engine.errors = [garbled()] * 3
    failed = (await gateway.send(recording)).json()["transcription_id"]
    store = gateway.services.store
    read = store.read

    async def read_after_deletion(key: str, start: int, end: int) -> AsyncIterator[bytes]:
        assert (await gateway.client.delete(f"{PATH}/{failed}")).status_code == 204
        async for chunk in read(key, start, end):
            yield chunk

    monkeypatch.setattr(store, "read", read_after_deletion)
    assert code_of(await act(gateway, failed, "retry")) == (410, "erased")


async def test_an_action_shows_no_content_to_a_key_that_may_not_read(
    gateway: Gateway, recording: bytes
) -> None:
    """ATTACKS L5: cancel, cancel again and retry show id, status and cost only."""
    gateway.engine.gate = asyncio.Event()
    key, owner = await gateway.key(Scope.TRANSCRIBE), await gateway.key()
    sent = await gateway.send(
        recording, key=owner, mode="async", reference="canary", metadata='{"a": "canary"}'
    )
    path = f"{PATH}/{sent.json()['id']}"
    for deed in ("cancel", "cancel", "retry"):
        for by, is_shown in ((owner, True), (key, False)):
            if deed == "retry" and by is owner:
                continue
            answer = await gateway.client.post(f"{path}/{deed}", headers=bearing(by))
            assert answer.status_code in {200, 202}, answer.text
            assert ("canary" in answer.text) is is_shown
            assert answer.json()["id"] == sent.json()["id"]
    gateway.engine.gate.set()
