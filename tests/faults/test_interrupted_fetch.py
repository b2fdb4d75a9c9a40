"""A fetch that a crash or a lost lease interrupts is repeated by the next run and leaves no file.

Covers: app.audio.intake.download, app.jobs.execution.fetch_source
"""

import asyncio
import io
import os
import wave
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from app.jobs.tables import transcription
from app.kit.clock import utc_now
from tests.support.fetching_gateway import QUERY, fetching_from, fetching_gateway, mp3
from tests.support.gateway import SPEECH
from tests.support.job_records import JobRecords, read_rows
from tests.support.process import GatewayProcess, until
from tests.support.scripted_engine import ScriptedEngine
from tests.support.web_server import Page, ReceivedRequest, answer, dripping, serving

pytestmark = pytest.mark.anyio
SETTINGS = {"JOBS__LEASE_SECONDS": "2", "JOBS__MAINTENANCE_INTERVAL_SECONDS": "0.5"}
TIMEOUT_SECONDS = 60.0


def in_turn(*pages: Page) -> Page:
    """Return a page that answers with each page in turn, and then always with the last."""
    left = list(pages)

    async def page(asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(asked, writer)

    return page


def long_wav() -> bytes:
    """Return the test recording repeated twice."""
    made = io.BytesIO()
    with wave.open(str(SPEECH)) as once, wave.open(made, "wb") as twice:
        twice.setparams(once.getparams())
        twice.writeframes(once.readframes(once.getnframes()) * 2)
    return made.getvalue()


def expire_lease(tx: sa.Connection) -> None:
    tx.execute(sa.update(transcription).values(lease_until=utc_now() - timedelta(days=1)))


async def test_a_stale_fetch_leaves_nothing(
    database_url: str, tmp_path: Path, engine: ScriptedEngine
) -> None:
    gate = asyncio.Event()
    async with fetching_gateway(database_url, tmp_path, engine) as site:
        slow, fast = dripping(mp3(), gate), answer("200 OK", mp3())
        job = (await site.of(in_turn(slow, fast), wait=0)).json()["id"]
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not site.source.asked:
                await asyncio.sleep(0.01)
        await site.gateway.services.db.write(expire_lease)
        assert await site.gateway.services.worker._transcriber.advance(job) is None
        before = await site.job()
        assert (before["status"], before["run_epoch"]) == ("completed", 2)
        gate.set()
        await site.gateway.services.worker.wait(job, TIMEOUT_SECONDS)
        assert await site.job() == before
        assert len(site.source.asked) == 2
        assert len(engine.calls) == 1
        await site.assert_one_recording(mp3())


async def test_a_gateway_that_is_killed_during_a_fetch_fetches_again(
    database_url: str, tmp_path: Path
) -> None:
    async with serving() as source:
        allowed = {
            f"FETCH__{name.upper()}": str(value)
            for name, value in fetching_from(source, ports=source.port).items()
        }
        allowed["FETCH__ALLOW_ADDRESSES"] = "127.0.0.1/32"
        gateway = GatewayProcess(tmp_path, database_url, 0.0, SETTINGS | allowed)
        never = asyncio.Event()
        body = long_wav()  # more than the store keeps in memory before it writes
        source.pages["/a"] = in_turn(dripping(body, never), answer("200 OK", body))
        with gateway.gone_at_the_end():
            job = await asyncio.to_thread(killed_while_fetching, gateway, source.url("/a" + QUERY))
            never.set()
            await asyncio.to_thread(ended, gateway, job)
            assert await asyncio.to_thread(gateway.stop) == 0
    records = JobRecords(await read_rows(database_url))
    (row,) = records.rows["transcription"]
    assert (row["status"], row["source_url"]) == ("completed", None)
    assert row["run_epoch"] == 2
    (audio,) = records.rows["audio"]
    assert audio["bytes"] == len(body)
    blobs = gateway.data_dir / "audio" / "blobs"
    assert [*records.violations(), *records.blob_violations(blobs)] == []
    assert records.orphans(blobs) == 0
    assert len(source.asked) == 2
    assert "canary" not in gateway.log.read_text()
    if database_url.startswith("sqlite"):  # others may be uploading where it is shared
        assert os.listdir(gateway.data_dir / "audio" / "incoming") == []  # noqa: PTH208


def killed_while_fetching(gateway: GatewayProcess, url: str) -> str:
    gateway.start()
    wish = {"url": url, "wait": 0}
    job = str(httpx.post(f"{gateway.url}/v1/transcriptions", json=wish).json()["id"])
    incoming = gateway.data_dir / "audio" / "incoming"
    until(lambda: list(incoming.glob("*")), TIMEOUT_SECONDS, "bytes are arriving")
    gateway.kill()
    gateway.start()
    return job


def ended(gateway: GatewayProcess, job: str) -> None:
    path = f"{gateway.url}/v1/transcriptions/{job}"
    until(lambda: httpx.get(path).json()["status"] == "completed", TIMEOUT_SECONDS, "it has ended")
