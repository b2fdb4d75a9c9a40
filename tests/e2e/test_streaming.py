"""Streams from the simulator and from a faulty provider: complete text or an error, settled.

FRAMES_SEED=7 FRAMES_ROUNDS=500 pytest tests/e2e/test_streaming.py

Covers: app.api.v1.response.event_stream, app.jobs.streaming.hub
"""

import os
import random
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from app.jobs.tables import upstream_call
from app.settings import Settings
from tests.simulator import FAULTS, ProviderSimulator, Script
from tests.simulator.answers import Pace
from tests.simulator.counting import encode
from tests.support import frames
from tests.support.chunked_reply import streams
from tests.support.gateway import running, settings_for, speech
from tests.support.process import GatewayProcess
from tests.support.simulated_gateway import fast_catalogue, simulated_gateway
from tests.support.sse_client import read_events, rows_of, sent, text_of, types_of
from tests.support.stub_server import Reply, upstream

pytestmark = pytest.mark.anyio
SEED = int(os.environ.get("FRAMES_SEED", random.SystemRandom().randrange(1 << 30)))
ROUNDS = int(os.environ.get("FRAMES_ROUNDS", "40"))
TEXT = "He was not an ill-disposed young man, 我说的是。"
REFUSALS = {"data-inspection", "error-in-stream"}
STREAMED = ("qwen3-asr-flash", "qwen-audio-3.0-asr-flash", "fun-asr-flash-2026-06-15")


@pytest.mark.parametrize("model", STREAMED)
async def test_text_is_relayed_while_the_provider_sends_it(tmp_path: Path, model: str) -> None:
    """Deltas arrive before the provider's stream has ended: the simulator pauses between frames."""
    async with (
        ProviderSimulator(words=Script(TEXT), pace=Pace(part_seconds=0.03)) as simulator,
        simulated_gateway(simulator, tmp_path) as gateway,
    ):
        seconds = 70 if model.startswith(("qwen-audio", "fun")) else 3  # shorter is one event there
        recording = encode(range(seconds)) if seconds > 10 else speech(3)
        async with sent(gateway, recording, mode="stream", model=model) as heard:
            await heard.until(lambda events: "delta" in types_of(events))
            assert not simulator.bill.lines[0].answered
            events = await heard.end()
        deltas = [one for one in events if one.type == "delta"]
        assert len(deltas) > 3
        assert text_of(events) == TEXT == events[-1].data["transcription"]["text"]
        assert simulator.calls[0].headers["x-dashscope-sse"] == "enable"


async def test_parts_of_long_audio_are_streamed_in_order(tmp_path: Path) -> None:
    async with ProviderSimulator() as simulator, simulated_gateway(simulator, tmp_path) as gateway:
        async with sent(gateway, encode(range(400)), mode="stream") as heard:
            events = await heard.end(60)
        shown = events[-1].data["transcription"]
        assert shown["plan"]["kind"] == "split"
        assert len(simulator.bill.lines) > 1
        assert text_of(events) == shown["text"]
        assert len([one for one in events if one.type == "delta"]) > 50


async def test_a_chat_of_open_weights_is_relayed(tmp_path: Path) -> None:
    async with (
        ProviderSimulator(
            regions=["cn-beijing", "vllm"], words=Script("Hello there, world.")
        ) as simulator,
        simulated_gateway(simulator, tmp_path) as gateway,
    ):
        async with sent(gateway, speech(3), mode="stream", model="vllm/qwen3-asr-1.7b") as heard:
            events = await heard.end()
        assert events[-1].type == "completed", events
        assert text_of(events) == "Hello there, world."
        assert events[-1].data["language"] == "en"


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"hang", "bad-key", "arrearage", "drip"}))
@pytest.mark.usefixtures("at_once")
async def test_every_fault_leaves_the_whole_text_or_an_error(tmp_path: Path, fault: str) -> None:
    async with (
        ProviderSimulator(words=Script(TEXT), seed=1, slow_seconds=0.1) as simulator,
        simulated_gateway(simulator, tmp_path) as gateway,
    ):
        simulator.faults.next(fault)
        async with sent(gateway, speech(3), mode="stream") as heard:
            events = await heard.end()
        assert events[-1].type in {"completed", "failed"}
        assert text_of(events) == (TEXT if events[-1].type == "completed" else "")
        assert events[-1].type == ("failed" if fault in REFUSALS else "completed")
        calls = await gateway.rows(upstream_call)
        assert [call["state"] for call in calls][-1] == (
            "answered" if events[-1].type == "completed" else "failed"
        )


@pytest.mark.usefixtures("at_once")
async def test_broken_frames_never_complete_with_missing_text(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.net.breaker.MIN_CALLS", 1 << 30)
    monkeypatch.setattr("app.net.retry.MIN_RETRIES", 1 << 30)
    sys.stdout.write(f"FRAMES_SEED={SEED} FRAMES_ROUNDS={ROUNDS}\n")
    chance = random.Random(SEED)
    pieces = ["He", " was", " not", " here,", " 我", "说", "。"]
    text, recording = "".join(pieces), speech(2)
    async with (
        upstream(streams([])) as there,
        running(_settings(database_url, tmp_path, there.url), None) as gateway,
    ):
        for number in range(ROUNDS):
            hows = [chance.choice([*frames.HARMFUL, ""]) for _ in range(2)]
            there.replies[:] = [_reply(pieces, how, chance) for how in hows]
            async with sent(gateway, recording, mode="stream") as heard:
                events = await heard.end()
            case = (SEED, number, hows, bytes(heard.raw))
            is_done = events[-1].type == "completed"
            # A rejected call is not repeated, and a call in doubt is repeated only once.
            assert is_done or events[-1].type == "failed", case
            assert is_done or "error" in hows or all(hows), case
            assert text_of(events) == (text if is_done else ""), case
            assert not is_done or events[-1].data["transcription"]["text"] == text, case
            assert len(rows_of(events)) == len({one.id for one in rows_of(events)})


def _reply(pieces: list[str], how: str, chance: random.Random) -> Reply:
    stream = frames.qwen3(pieces, merged=chance.random() < 0.5)
    stream = frames.with_fault(stream, "qwen3", how, chance) if how else stream
    shaped = frames.reshaped(stream, chance.choice([*frames.HARMLESS, ""]))
    return streams(frames.split(shaped, chance), ends=chance.choice(["well", "torn"]))


def _settings(database_url: str, folder: Path, url: str) -> Settings:
    return settings_for(
        database_url,
        folder / "data",
        speech={"default_model": "qwen3-asr-flash", "catalogue": str(fast_catalogue(folder))},
        dashscope={"api_key": "sk-canary", "base_url": url},
    )


def test_open_streams_do_not_keep_a_process_from_ending(tmp_path: Path) -> None:
    """Each stream receives `closing` at once. The job is released after the shutdown time."""
    gateway = GatewayProcess(tmp_path, delay_seconds=60, settings={"SERVER__SHUTDOWN_SECONDS": "4"})
    with gateway.gone_at_the_end():
        gateway.start()
        told: list[tuple[float, bytes]] = []
        threads = [threading.Thread(target=_listen, args=(gateway.url, told)) for _ in range(5)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with httpx.Client(base_url=gateway.url) as client:
                items = client.get("/v1/transcriptions").json()["items"]
            if len(items) == 5 and all(one["status"] == "processing" for one in items):
                break
            time.sleep(0.05)
        asked = time.monotonic()
        assert gateway.stop() == 0
        ended = time.monotonic() - asked
        for thread in threads:
            thread.join()
    assert ended < 8
    assert len(told) == 5
    for moment, raw in told:
        assert moment - asked < 1.5
        assert read_events(raw)[0][-1].type == "closing"


def _listen(url: str, told: list[tuple[float, bytes]]) -> None:
    with (
        httpx.Client(timeout=60) as client,
        client.stream(
            "POST",
            f"{url}/v1/transcriptions",
            files={"file": ("speech.wav", speech(2))},
            data={"mode": "stream"},
        ) as answer,
    ):
        raw = answer.read()
    told.append((time.monotonic(), raw))
