"""Audio through Qwen3-ASR's request format, from the upload to the ledger, with only a key set.

Covers: app.audio.inspection.ffmpeg_probe, app.jobs.execution.as_received
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.audio.ffmpeg import Decoders
from app.audio.probe import Probe
from app.billing.tables import ledger_line
from app.jobs.tables import part, upstream_call
from app.speech.catalogue import PACKAGED
from tests.support.gateway import NANO_PER_SECOND, Gateway, code_of, running, settings_for, speech
from tests.support.stub_server import (
    ReceivedRequest,
    Reply,
    Upstream,
    answers,
    qwen3_answer,
    refuses,
    upstream,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def database(migrated_sqlite: Path, tmp_path: Path) -> str:
    shutil.copy(migrated_sqlite, tmp_path / "gateway.db")
    return f"sqlite:///{tmp_path / 'gateway.db'}"


@asynccontextmanager
async def proxying(
    database: str,
    folder: Path,
    *replies: Reply,
    speech: dict[str, Any] | None = None,
    server: dict[str, Any] | None = None,
    **dashscope: Any,
) -> AsyncIterator[tuple[Gateway, Upstream]]:
    """Run a gateway with a key and a stub of DashScope as its base URL."""
    async with upstream(*replies) as there:
        settings = settings_for(
            database,
            folder,
            speech=speech or {"default_model": "", "catalogue": ""},
            server=server or {},
            dashscope={"api_key": "sk-canary", "base_url": f"{there.url}/api/v1/", **dashscope},
        )
        async with running(settings, None) as gateway:
            yield gateway, there


async def test_a_recording_is_transcribed_and_billed_to_the_second(
    database: str, tmp_path: Path, recording: bytes
) -> None:
    async with proxying(database, tmp_path, answers(qwen3_answer("你好。", 2))) as (gateway, there):
        response = await gateway.send(recording, language="zh", context="Ada")
        lines = await gateway.rows(ledger_line)
        (call,) = await gateway.rows(upstream_call)
    body = response.json()
    assert (body["text"], body["language"], body["segments"][0]["emotion"]) == (
        "你好。",
        "zh",
        "neutral",
    )
    assert (body["model"], body["engine"]) == ("qwen3-asr-flash", "dashscope")
    assert (body["usage"]["seconds"], body["cost"]["currency"]) == (2, "CNY")
    assert body["cost"]["nano"] == 2 * NANO_PER_SECOND
    assert [line["kind"] for line in lines] == ["hold", "settle", "release"]
    assert not lines[1]["estimated"]
    assert call["usage"]["seconds"] == 2
    (asked,) = there.asked
    assert asked.sound == recording
    assert body["plan"]["as_is"]


async def test_a_retired_model_is_answered_with_its_successor(
    database: str, tmp_path: Path, recording: bytes
) -> None:
    async with proxying(database, tmp_path, answers({})) as (gateway, _):
        response = await gateway.send(recording, model="qwen-audio-asr-latest")
    assert code_of(response) == (422, "model_retired")
    assert response.json()["successor"] == "qwen3-asr-flash"


async def test_an_invalid_provider_key_fails_the_job_after_one_call(
    database: str, tmp_path: Path, recording: bytes
) -> None:
    replies = refuses("InvalidApiKey", "401 Unauthorized")
    async with proxying(database, tmp_path, replies) as (gateway, there):
        response = await gateway.send(recording)
    assert code_of(response) == (503, "engine_account")
    assert len(there.asked) == 1


async def test_a_429_is_retried_after_retry_after(
    database: str, tmp_path: Path, recording: bytes
) -> None:
    busy = refuses("Throttling.RateQuota", "429 Too Many Requests", retry_after="0.2")
    async with proxying(database, tmp_path, busy, answers(qwen3_answer())) as (gateway, there):
        body = (await gateway.send(recording)).json()
        settled = [row for row in await gateway.rows(ledger_line) if row["kind"] == "settle"]
    assert body["status"] == "completed"
    assert len(there.asked) == 2
    assert len(settled) == 1


async def test_prices_depend_on_the_region_and_unknown_prices_are_rejected(
    database: str, tmp_path: Path, recording: bytes
) -> None:
    async with proxying(database, tmp_path, answers(qwen3_answer()), region="ap-southeast-1") as (
        gateway,
        there,
    ):
        body = (await gateway.send(recording)).json()
        assert body["cost"]["nano"] == 2 * 260_000
        response = await gateway.send(recording, model="fun-asr-flash-2026-06-15")
    assert code_of(response) == (503, "price_unknown")
    assert len(there.asked) == 1


async def test_long_audio_is_sent_in_parts_within_the_limit(database: str, tmp_path: Path) -> None:
    async with proxying(database, tmp_path, answers(qwen3_answer("x", 5))) as (gateway, _):
        models = (await gateway.get("/v1/models")).json()["items"]
        await gateway.send(speech(9, start=0))
    flash = next(model for model in models if model["id"] == "qwen3-asr-flash")
    assert (flash["is_default"], flash["ready"], flash["part_seconds"]) == (True, True, 240)


async def test_a_file_rejected_as_received_is_sent_as_flac_with_a_warning(
    database: str, tmp_path: Path, recording: bytes
) -> None:
    replies = refuses("InvalidParameter"), answers(qwen3_answer("你好。", 2))
    async with proxying(database, tmp_path, *replies) as (gateway, there):
        body = (await gateway.send(recording)).json()
        calls = await gateway.rows(upstream_call)
        lines = await gateway.rows(ledger_line)
        (row,) = await gateway.rows(part)
    assert (body["status"], body["text"], body["coverage"]) == ("completed", "你好。", 1.0)
    assert [warning["code"] for warning in body["warnings"]] == ["audio_decoded"]
    assert [asked.sound[:4] for asked in there.asked] == [b"RIFF", b"fLaC"]
    assert [(call["state"], call["billed"]) for call in calls] == [
        ("failed", "no"),
        ("answered", "yes"),
    ]
    assert [line["kind"] for line in lines] == ["hold", "settle", "release"]
    assert (row["state"], row["start_ms"], row["end_ms"]) == ("done", 0, 2_000)


async def test_a_file_rejected_in_both_formats_fails_the_job(
    database: str, tmp_path: Path, recording: bytes
) -> None:
    async with proxying(database, tmp_path, refuses("InvalidParameter")) as (gateway, there):
        assert code_of(await gateway.send(recording)) == (422, "engine_refused")
    assert [asked.sound[:4] for asked in there.asked] == [b"RIFF", b"fLaC"]


async def test_rejected_content_is_not_sent_again_in_another_format(
    database: str, tmp_path: Path, recording: bytes
) -> None:
    async with proxying(database, tmp_path, refuses("DataInspectionFailed")) as (gateway, there):
        assert code_of(await gateway.send(recording)) == (422, "engine_refused")
    assert len(there.asked) == 1


def hanging() -> tuple[asyncio.Event, Reply]:
    """Return a reply that never ends, and an event that is set when it is requested."""
    hung = asyncio.Event()

    async def hangs(_asked: ReceivedRequest, _writer: asyncio.StreamWriter) -> None:
        hung.set()
        await asyncio.sleep(60)

    return hung, hangs


async def test_a_second_run_sends_the_same_bytes_after_a_change_of_the_catalogue(
    database: str, tmp_path: Path, recording: bytes
) -> None:
    hung, hangs = hanging()
    server = {"shutdown_seconds": 0.0}
    async with proxying(database, tmp_path, hangs, server=server) as (gateway, _):
        job = (await gateway.send(recording, wait="0")).json()
        await asyncio.wait_for(hung.wait(), 10)
    overlay = tmp_path / "catalogue.toml"
    shipped = PACKAGED.read_text().replace('accepts = ["wav"', 'accepts = ["amr"')
    overlay.write_text(shipped)
    speech_now = {"default_model": "", "catalogue": str(overlay)}
    reply = answers(qwen3_answer("你好。", 2))
    async with proxying(database, tmp_path, reply, speech=speech_now) as (gateway, there):
        body = await gateway.ended(job["id"])
        fresh = (await gateway.send(recording)).json()
    assert (body["text"], body["plan"]["as_is"], fresh["plan"]["as_is"]) == ("你好。", True, False)
    assert [asked.sound == recording for asked in there.asked] == [True, False]


async def test_a_second_run_does_not_send_the_rejected_format_again(
    database: str, tmp_path: Path, recording: bytes
) -> None:
    hung, hangs = hanging()
    server = {"shutdown_seconds": 0.0}
    replies = refuses("InvalidParameter"), hangs
    async with proxying(database, tmp_path, *replies, server=server) as (gateway, there):
        job = (await gateway.send(recording, wait="0")).json()
        await asyncio.wait_for(hung.wait(), 10)
        assert [asked.sound[:4] for asked in there.asked] == [b"RIFF", b"fLaC"]
    reply = answers(qwen3_answer("你好。", 2))
    async with proxying(database, tmp_path, reply) as (gateway, there):
        body = await gateway.ended(job["id"])
    assert (body["text"], body["plan"]["as_is"]) == ("你好。", True)
    assert [warning["code"] for warning in body["warnings"]] == ["audio_decoded"]
    assert [asked.sound[:4] for asked in there.asked] == [b"fLaC"]


def with_odd_chunk(wav: bytes) -> bytes:
    """Add a chunk of an unknown kind, so that a decoder process has to decode the file."""
    file = wav + b"odd!" + bytes(4)
    return file[:4] + (len(file) - 8).to_bytes(4, "little") + file[8:]


@pytest.mark.parametrize("by_child", [True, False])
async def test_decoding_after_a_rejection_is_limited_by_the_verified_length(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, by_child: bool
) -> None:
    found = Probe("wav", "pcm_s16le", 1, 16_000, 2.0, exact=True)
    monkeypatch.setattr("app.audio.inspection.inspect.verified_bytes", lambda _data: found)
    asked_for: list[str] = []
    opened = Decoders.open

    def noted(self: Decoders, path: Path, output: Sequence[str], **fields: Any) -> Any:
        asked_for.append(output[output.index("-t") + 1])
        return opened(self, path, output, **fields)

    monkeypatch.setattr(Decoders, "open", noted)
    reply, sound = refuses("InvalidParameter"), speech(9, start=0)
    async with proxying(database, tmp_path, reply) as (gateway, there):
        refused = await gateway.send(with_odd_chunk(sound) if by_child else sound)
        lines = await gateway.rows(ledger_line)
    assert code_of(refused) == (422, "undecodable")
    assert "more than the 3.0 s that it says" in refused.json()["detail"]
    assert asked_for == (["4.000"] if by_child else [])
    assert len(there.asked) == 1
    assert [line["kind"] for line in lines] == ["hold", "release"]
