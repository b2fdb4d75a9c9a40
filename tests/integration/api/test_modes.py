"""The modes of a request: an answer at once, after a wait, or with the text.

Covers: app.api.v1.response.wait
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from app.jobs.tables import transcription
from tests.support.gateway import Gateway, code_of, running, settings_for
from tests.support.scripted_engine import ScriptedEngine
from tests.support.sse_client import followed, sent
from tests.support.task_gateway import FILETRANS, THREE_SECONDS, task_gateway

pytestmark = pytest.mark.anyio
PATH = "/v1/transcriptions"
AT_ONCE_SECONDS = 3


async def post(gateway: Gateway, recording: bytes, prefer: str, **options: str):  # noqa: ANN201
    return await gateway.client.post(
        PATH,
        files={"file": ("a.wav", recording)},
        data=options,
        headers={"Prefer": prefer},
    )


@pytest.mark.parametrize("options", [{"mode": "async"}, {"async": "true"}])
async def test_async_is_answered_at_once(
    gateway: Gateway, recording: bytes, options: dict[str, str]
) -> None:
    gateway.engine.gate = asyncio.Event()
    async with asyncio.timeout(AT_ONCE_SECONDS):
        response = await gateway.send(recording, **options)
    assert response.status_code == 202
    body = response.json()
    assert (body["mode"], body["status"] in {"queued", "processing"}) == ("async", True)
    assert response.headers["location"] == f"{PATH}/{body['id']}"
    assert int(response.headers["retry-after"]) > 0
    gateway.engine.gate.set()
    assert (await gateway.ended(body["id"]))["text"] == "heard"


async def test_prefer_respond_async_is_answered_at_once(gateway: Gateway, recording: bytes) -> None:
    response = await post(gateway, recording, "respond-async")
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "respond-async"
    assert (await gateway.ended(response.json()["id"]))["mode"] == "async"


async def test_prefer_wait_is_used_if_the_body_has_no_wait(
    gateway: Gateway, recording: bytes
) -> None:
    gateway.engine.gate = asyncio.Event()
    async with asyncio.timeout(AT_ONCE_SECONDS):
        short = await post(gateway, recording, "respond-async, wait=0")
        other = await post(gateway, recording, "wait=3600", wait="0")
    assert (short.status_code, other.status_code) == (202, 202)
    assert short.headers["preference-applied"] == "respond-async, wait=0"
    assert "preference-applied" not in other.headers
    gateway.engine.gate.set()
    done = await post(gateway, recording, "wait=60")
    assert (done.status_code, done.headers["preference-applied"]) == (200, "wait=60")


@pytest.mark.parametrize("mode", ["auto", "sync"])
async def test_sync_and_auto_start_at_once_and_wait(
    gateway: Gateway, recording: bytes, mode: str
) -> None:
    response = await gateway.send(recording, mode=mode)
    assert (response.status_code, response.json()["text"]) == (200, "heard")
    assert response.json()["mode"] == mode


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "later"}, "`mode` must be `auto`, `sync`, `async` or `stream`."),
        ({"wait": "3601"}, "`wait` must be a whole number of seconds from 0 to 3600."),
        ({"wait": "-1"}, "`wait` must be a whole number of seconds from 0 to 3600."),
        ({"priority": "101"}, "`priority` must be a whole number from -100 to 100."),
        ({"on_disconnect": "no"}, "`on_disconnect` must be `finish` or `cancel`."),
        (
            {"async": "true", "mode": "sync"},
            "`async=true` contradicts `mode=sync`. Send only one of them.",
        ),
    ],
)
async def test_contradicting_options_are_rejected_with_a_message(
    gateway: Gateway, recording: bytes, options: dict[str, str], words: str
) -> None:
    response = await gateway.send(recording, **options)
    assert code_of(response) == (422, "invalid_parameter")
    assert response.json()["detail"] == words
    assert await gateway.rows(transcription) == []


async def test_an_invalid_prefer_wait_is_rejected_before_the_body_is_read(gateway: Gateway) -> None:
    response = await gateway.client.post(PATH, headers={"Prefer": "wait=3601"}, content=b"x")
    assert code_of(response) == (422, "invalid_parameter")
    words = "`Prefer: wait` takes a whole number of seconds from 0 to 3600."
    assert response.json()["detail"] == words


@pytest.mark.settings(jobs={"max_sync_callers": 1})
async def test_async_jobs_do_not_count_as_sync_callers(gateway: Gateway, recording: bytes) -> None:
    gateway.engine.gate = asyncio.Event()
    sent = [await gateway.send(recording, mode="async") for _ in range(3)]
    assert [response.status_code for response in sent] == [202] * 3
    waiting = asyncio.create_task(gateway.send(recording))
    await asyncio.sleep(0.1)
    gateway.engine.gate.set()
    assert (await waiting).status_code == 200


# ── streams count as sync callers ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wish", "becomes"), [({}, "completed"), ({"on_disconnect": "cancel"}, "cancelled")]
)
async def test_a_disconnect_finishes_or_cancels_the_job_as_requested(
    gateway: Gateway, recording: bytes, wish: dict[str, str], becomes: str
) -> None:
    gateway.engine.gate = asyncio.Event()
    async with sent(gateway, recording, mode="stream", **wish) as heard:
        await heard.until(bool)
        job = heard.events[0].data["id"]
        async with followed(gateway, job) as other:
            await other.until(bool)
        assert (await gateway.get(f"{PATH}/{job}")).json()["completed_at"] is None
    if becomes == "completed":
        gateway.engine.gate.set()
    assert (await gateway.ended(job))["status"] == becomes


async def test_a_shutdown_does_not_count_as_a_disconnect(
    gateway: Gateway, recording: bytes
) -> None:
    gateway.engine.gate = asyncio.Event()
    async with sent(gateway, recording, mode="stream", on_disconnect="cancel") as heard:
        await heard.until(bool)
        gateway.app.state.begin_shutdown()
        events = await heard.end()
    assert events[-1].type == "closing"
    gateway.engine.gate.set()
    assert (await gateway.ended(events[0].data["id"]))["status"] == "completed"


async def test_an_open_stream_counts_as_a_sync_caller(
    shared_url: str, tmp_path: Path, recording: bytes
) -> None:
    """This holds also if another process runs the job."""
    worker = ScriptedEngine(gate=asyncio.Event())
    here = settings_for(
        shared_url, tmp_path / "data", jobs={"worker": False, "max_sync_callers": 1}
    )
    there = settings_for(shared_url, tmp_path / "data")
    assert worker.gate is not None
    async with running(here, ScriptedEngine()) as gateway, running(there, worker):
        async with sent(gateway, recording, mode="stream") as left:
            await left.until(bool)
            full = await gateway.send(recording, mode="async")
            assert code_of(full) == (429, "too_many_jobs")
        worker.gate.set()
        for _ in range(2):
            async with sent(gateway, recording, mode="stream") as heard:
                assert (await heard.end())[-1].type == "completed"


@pytest.mark.settings(jobs={"max_sync_callers": 1})
async def test_a_stream_of_a_job_of_this_process_counts_as_a_sync_caller(
    gateway: Gateway, recording: bytes
) -> None:
    gateway.engine.gate = asyncio.Event()
    async with sent(gateway, recording, mode="stream") as heard:
        await heard.until(bool)
        assert code_of(await gateway.send(recording, mode="async")) == (429, "too_many_jobs")
        gateway.engine.gate.set()
        await heard.end()
    assert (await gateway.send(recording)).status_code == 200


@pytest.mark.settings(jobs={"max_concurrent_jobs": 1})
async def test_a_high_priority_overtakes_500_waiting(gateway: Gateway, recording: bytes) -> None:
    gateway.engine.gate = asyncio.Event()
    first = (await gateway.send(recording, mode="async")).json()["id"]
    while not gateway.engine.calls:
        await asyncio.sleep(0.01)
    asked = [asyncio.create_task(gateway.send(recording, mode="async")) for _ in range(500)]
    waiting = [(await one).json()["id"] for one in asked]
    urgent = (await gateway.send(recording, mode="async", priority="50")).json()
    lazy = (await gateway.send(recording, mode="async", priority="-1")).json()
    assert (urgent["status"], lazy["status"]) == ("queued", "queued")
    opened = time.monotonic()
    gateway.engine.gate.set()
    assert (await gateway.ended(urgent["id"]))["status"] == "completed"
    overtaken = time.monotonic() - opened
    rows = {row["id"]: row for row in await gateway.rows(transcription)}
    begun = sorted((row["started_at"], id_) for id_, row in rows.items() if row["started_at"])
    assert [id_ for _, id_ in begun[:2]] == [first, urgent["id"]]
    assert set(waiting) >= {id_ for _, id_ in begun[2:]}  # and the lazy one is the last of all
    assert len(begun) < 500
    print(f"overtook 500 in {overtaken * 1000:.0f} ms")  # noqa: T201


# ── another model than the one that was named ───────────────────────────────────────────────

FLASH = "qwen3-asr-flash"
SPEAKERS = {"diarization_enabled": True}


@pytest.mark.parametrize(
    ("options", "model", "reason"),
    [
        ({"mode": "async"}, FILETRANS, "`mode=async`"),
        ({"timestamp_granularities": "word"}, FILETRANS, "times of words"),
        (SPEAKERS, "fun-asr", "speaker diarization"),
        ({"mode": "async", **SPEAKERS}, "fun-asr", "speaker diarization"),
    ],
)
async def test_a_replaced_model_of_the_request_is_a_warning(
    tmp_path: Path, options: dict[str, Any], model: str, reason: str
) -> None:
    async with task_gateway(tmp_path) as here:
        sent = (await here.send(**{"model": FLASH, "strict": "true", **options})).json()
        named = await here.gateway.ended(sent["id"])
        length = await here.gateway.client.post(
            "/v1/estimates", json={"seconds": 3, "model": FLASH, **options}
        )
    assert (named["status"], named["model"], named["plan"]["kind"]) == (
        *("completed", model, "filetrans"),
    )
    (warning,) = named["warnings"]
    assert (warning["code"], warning["option"]) == ("model_replaced", "model")
    assert warning["detail"] == f"{model} replaces {FLASH} for {reason}."
    assert length.json()["warnings"] == named["warnings"]


async def test_a_replaced_default_model_is_only_in_the_plan(tmp_path: Path) -> None:
    async with task_gateway(tmp_path) as here:
        sent = await here.gateway.send(THREE_SECONDS, mode="async")
        job = await here.gateway.ended(sent.json()["id"])
    assert (job["model"], job["warnings"]) == (FILETRANS, [])
    assert f"{FILETRANS} replaces {FLASH} for `mode=async`" in job["plan"]["reason"]


async def test_the_warning_of_an_ignored_option_names_a_model_with_it(tmp_path: Path) -> None:
    """Only a model that this gateway can call: models for tasks need a URL, and there is none."""
    async with task_gateway(tmp_path, temporary_upload=False) as here:
        asked = {"timestamp_granularities": "word", **SPEAKERS}
        alone = (await here.send(model=FLASH, **asked)).json()
    other = tmp_path / "other"
    other.mkdir()
    async with task_gateway(other) as here:
        job = (await here.send(model=FILETRANS, **SPEAKERS)).json()
    assert [(one["code"], one["option"]) for one in alone["warnings"]] == [
        ("option_ignored", "diarization_enabled"),
        ("option_ignored", "timestamp_granularities"),
    ]
    assert alone["model"] == FLASH
    assert [one["detail"] for one in alone["warnings"]] == [
        f"{FLASH} does not support `diarization_enabled`.",
        f"{FLASH} does not return the times of words; qwen-audio-3.0-asr-flash does.",
    ]
    (warning,) = job["warnings"]
    can = "qwen-audio-3.0-asr-flash-filetrans does"
    assert warning["detail"] == f"{FILETRANS} does not support `diarization_enabled`; {can}."


async def test_a_model_without_a_price_here_replaces_none(tmp_path: Path) -> None:
    async with task_gateway(tmp_path, region="us-east-1") as here:
        answer = await here.gateway.client.post(
            "/v1/estimates", json={"seconds": 3, "model": FLASH, "mode": "async"}
        )
    assert (answer.status_code, answer.json()["model"]) == (200, FLASH)
