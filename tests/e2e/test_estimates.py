"""Estimates compared with the simulator: the cost with its bill, the wait with the actual time."""

import asyncio
import base64
import time
from pathlib import Path
from typing import Any

import pytest

from app.billing.tables import ledger_line
from app.jobs.tables import transcription
from tests.simulator import ProviderSimulator
from tests.simulator.counting import encode
from tests.simulator.file_host import FileHost
from tests.support.gateway import Gateway, code_of
from tests.support.simulated_gateway import simulated_gateway

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180), pytest.mark.alone]
OMNI = "qwen3-omni-flash"
TOKENS = "qwen-audio-3.1-asr-flash"
CLOSE = 0.25


async def estimate(gateway: Gateway, **members: Any) -> dict[str, Any]:
    response = await gateway.client.post("/v1/estimates", json=members)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def waiting(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = (await estimate(gateway, seconds=2))["wait"]
    return found


async def many(gateway: Gateway, count: int, recording: bytes) -> list[dict[str, Any]]:
    """Send this number of requests concurrently, without waiting for the jobs."""
    sent = await asyncio.gather(*(gateway.send(recording, wait="0") for _ in range(count)))
    return [one.json() for one in sent]


async def measured(gateway: Gateway, count: int) -> None:
    """Wait until this number of calls was measured. The first ones run during the uploads."""
    deadline = time.monotonic() + 20
    while True:
        wait = await waiting(gateway)
        if wait["measured_calls"] >= count:
            return
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("latency", "calls_a_minute", "jobs_at_once"),
    [
        pytest.param(0.4, 360, 32, id="the account's pace"),
        pytest.param(1.0, 6_000, 4, id="the slots of jobs"),
    ],
)
async def test_the_estimated_wait_is_close_to_the_real_one(
    database_url: str, tmp_path: Path, latency: float, calls_a_minute: int, jobs_at_once: int
) -> None:
    jobs = {"max_concurrent_jobs": jobs_at_once}
    async with (
        ProviderSimulator(latency_seconds=latency) as simulator,
        simulated_gateway(
            simulator, tmp_path, database=database_url, jobs=jobs, calls_a_minute=calls_a_minute
        ) as there,
    ):
        recording = encode([1, 2])
        await many(there, 60 if jobs_at_once > 10 else 40, recording)
        await measured(there, 12)
        found = await waiting(there)
        began = time.monotonic()
        body = (await there.send(encode([3, 4]))).json()
        took = time.monotonic() - began
    assert body["status"] == "completed"
    assert found["jobs_waiting"] + found["jobs_running"] > 15
    assert took > 2  # or no call had to wait
    assert abs(found["seconds"] - took) <= CLOSE * took, (found, took)


async def test_the_estimated_wait_of_an_idle_gateway_is_one_call(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        ProviderSimulator(latency_seconds=2.0) as simulator,
        simulated_gateway(simulator, tmp_path, database=database_url) as there,
    ):
        await there.send(encode([1, 2]))
        found = await waiting(there)
        began = time.monotonic()
        await there.send(encode([3, 4]))
        took = time.monotonic() - began
    assert (found["jobs_waiting"], found["measured_calls"]) == (0, 1)
    assert abs(found["seconds"] - took) <= CLOSE * took, (found, took)


async def test_the_estimated_wait_includes_the_open_time_of_the_breaker(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        ProviderSimulator() as simulator,
        simulated_gateway(simulator, tmp_path, database=database_url) as there,
    ):
        simulator.faults.down("cn-beijing", "503")
        await many(there, 25, encode([1, 2]))
        deadline = time.monotonic() + 20
        while "too many calls failed" not in (found := await waiting(there))["basis"]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    assert found["seconds"] > 5


@pytest.mark.parametrize("model", ["qwen3-asr-flash", TOKENS, OMNI])
async def test_the_estimated_cost_is_close_to_the_bill_and_below_the_hold(
    database_url: str, tmp_path: Path, model: str
) -> None:
    recording = encode(range(30))
    async with (
        ProviderSimulator(rounding="ceil") as simulator,
        simulated_gateway(simulator, tmp_path, database=database_url, omni=True) as there,
    ):
        found = await estimate(there, seconds=30, model=model)
        body = (await there.send(recording, model=model)).json()
        (held,) = await there.rows(ledger_line, kind="hold")
    cost, most = found["cost"]["nano"], found["max_cost"]["nano"]
    assert body["cost"]["nano"] <= cost <= most == held["nano"]
    assert cost <= 2 * body["cost"]["nano"] + 500_000
    if model == "qwen3-asr-flash":
        assert cost == body["cost"]["nano"]
        assert found["tokens"] is None
    else:
        assert sum(found["tokens"].values()) >= body["usage"]["tokens"]


@pytest.mark.parametrize("model", [TOKENS, OMNI])
async def test_tokens_are_limited_by_what_a_call_can_cost_at_most(
    database_url: str, tmp_path: Path, model: str
) -> None:
    recording = encode([1, 2, 3])
    async with (
        ProviderSimulator() as simulator,
        simulated_gateway(simulator, tmp_path, database=database_url, omni=True) as there,
    ):
        expected = (await estimate(there, seconds=3, model=model))["cost"]["amount"]
        refused = await there.send(recording, model=model, max_cost=expected)
        assert code_of(refused) == (422, "cost_above_limit")
        assert not simulator.calls
        needed = refused.json()["estimate"]["amount"]
        body = (await there.send(recording, model=model, max_cost=needed)).json()
        held = sum(line["nano"] for line in await there.rows(ledger_line, kind="hold"))
    assert body["status"] == "completed"
    assert body["cost"]["nano"] <= held <= refused.json()["estimate"]["nano"]


@pytest.mark.parametrize(
    ("headers", "mode", "kind"),
    [
        ({}, None, "split"),
        ({"Prefer": "respond-async"}, None, "filetrans"),
        ({"Prefer": "respond-async"}, "sync", "split"),
        ({"Prefer": "respond-async", "Accept": "text/event-stream"}, None, "split"),
    ],
)
async def test_the_headers_count_as_with_a_transcription(
    tmp_path: Path, headers: dict[str, str], mode: str | None, kind: str
) -> None:
    recording = {"audio": "data:audio/wav;base64," + base64.b64encode(encode(range(250))).decode()}
    said = {} if mode is None else {"mode": mode}
    async with ProviderSimulator() as simulator, simulated_gateway(simulator, tmp_path) as there:
        sent, by_length, by_sound = [
            await there.client.post(path, json={**what, **said}, headers=headers)
            for path, what in (
                ("/v1/transcriptions", recording),
                ("/v1/estimates", {"seconds": 250}),
                ("/v1/estimates", recording),
            )
        ]
        (job,) = await there.rows(transcription)
    assert sent.is_success, sent.text
    assert [one.json()["plan"]["kind"] for one in (by_length, by_sound)] == [kind] * 2
    assert (job["plan"]["kind"], job["model"]) == (kind, by_length.json()["model"])


async def test_of_a_length_alone_a_task_is_told_without_what_is_not_known(tmp_path: Path) -> None:
    task = {"model": "qwen3-asr-flash-filetrans", "seconds": 3600}
    public = {"public_url": "https://gateway.example"}
    async with (
        ProviderSimulator() as simulator,
        simulated_gateway(simulator, tmp_path, server=public) as there,
    ):
        plain = await estimate(there, **task)
        channels = await estimate(there, **task, channel_id=[0, 1])
    assert plain["plan"]["reason"].endswith("from this gateway's public address")
    assert (plain["plan"]["audio_source"], plain["plan"]["as_is"]) == ("gateway_url", True)
    assert channels["billed_seconds"] == 2 * plain["billed_seconds"] == 7200


async def test_where_a_task_could_not_be_given_the_recording_it_is_refused(tmp_path: Path) -> None:
    task = {"model": "qwen3-asr-flash-filetrans", "seconds": 3600}
    async with (
        ProviderSimulator() as simulator,
        simulated_gateway(simulator, tmp_path, temporary_upload=False) as there,
    ):
        response = await there.client.post("/v1/estimates", json=task)
        document = (await there.client.get("/openapi.json")).json()
    assert code_of(response) == (422, "audio_unreachable")
    (told,) = document["paths"]["/v1/estimates"]["post"]["responses"]["422"]["content"].values()
    assert "audio_unreachable" in told["examples"]


async def test_what_is_behind_a_link_is_judged_once_it_is_here(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        FileHost({"/a.wav": encode([1, 2, 3])}) as host,
        ProviderSimulator(rounding="ceil") as simulator,
        simulated_gateway(
            simulator,
            tmp_path,
            database=database_url,
            fetch={
                "allow_http": True,
                "allow_addresses": ("127.0.0.0/8",),
                "ports": (int(host.url.rpartition(":")[2]),),
            },
        ) as there,
    ):
        url = f"{host.url}/a.wav"
        dear = await there.client.post(
            "/v1/transcriptions", json={"url": url, "max_cost": "0.0005"}
        )
        long = await there.client.post(
            "/v1/transcriptions", json={"url": url, "max_billable_seconds": 2}
        )
        assert not simulator.calls
        fine = await there.client.post(
            "/v1/transcriptions", json={"url": url, "max_cost": "0.00066"}
        )
        holds = [line["nano"] for line in await there.rows(ledger_line, kind="hold")]
    assert code_of(dear) == (422, "cost_above_limit")
    assert code_of(long) == (422, "seconds_above_limit")
    assert (fine.json()["status"], fine.json()["cost"]["nano"]) == ("completed", 660_000)
    assert holds[0] == 500_000
