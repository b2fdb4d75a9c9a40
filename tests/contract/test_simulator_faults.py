"""Every fault has the effect of its name on the wire, and the correct charge."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.simulator import FAULTS, ProviderSimulator, Script, counting
from tests.simulator.answers import Pace
from tests.simulator.client import SimulatorClient, compatible, data_uri, qwen3

AUDIO = data_uri(counting.encode([1]))
REFUSALS = {
    "429": (429, "Throttling.RateQuota", "limit_requests"),
    "429-retry-after": (429, "Throttling.RateQuota", "limit_requests"),
    "429-burst": (429, "Throttling.BurstRate", "limit_burst_rate"),
    "429-quota": (429, "Throttling.AllocationQuota", "insufficient_quota"),
    "500": (500, "InternalError", "internal_error"),
    "503": (503, "ModelUnavailable", "model_unavailable"),
    "arrearage": (400, "Arrearage", "Arrearage"),
    "bad-key": (401, "InvalidApiKey", "invalid_api_key"),
    "data-inspection": (400, "DataInspectionFailed", "data_inspection_failed"),
}
BROKEN = {
    "reset-before-first-byte": (httpx.ReadError, None),
    "hang": (httpx.ReadTimeout, None),
    "reset-after-first-byte": (httpx.ReadError, False),
    "cut-short": (httpx.RemoteProtocolError, False),
    "answer-lost": (httpx.RemoteProtocolError, False),
}
ODD = {"html-page", "truncated-json", "drip", "wrong-content-type", "slow"}
OF_STREAMS = {"error-in-stream", "duplicate-frames"}

pytestmark = pytest.mark.anyio


@pytest.fixture
async def simulator() -> AsyncIterator[ProviderSimulator]:
    pace = Pace(drip_seconds=0.02)
    regions = ["cn-beijing", "vllm"]
    async with ProviderSimulator(
        regions=regions, words=Script("a"), slow_seconds=0.5, pace=pace
    ) as simulator:
        yield simulator


@pytest.fixture
async def ask(simulator: ProviderSimulator) -> AsyncIterator[SimulatorClient]:
    async with httpx.AsyncClient(timeout=2) as client:
        yield SimulatorClient(simulator, client)


def test_every_fault_is_tried_here() -> None:
    assert REFUSALS.keys() | BROKEN.keys() | ODD | OF_STREAMS == FAULTS.keys()


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_rejection_is_free_and_has_the_format_of_its_wire(
    ask: SimulatorClient, name: str
) -> None:
    ask.simulator.faults.next(name, times=3)
    status, code, compat_code = REFUSALS[name]
    native, chat = await ask.native(qwen3(AUDIO)), await ask.chat(compatible(AUDIO))
    body = compatible(AUDIO, model="Qwen/Qwen3-ASR-0.6B")
    vllm = await ask.post("/v1/chat/completions", body, region="vllm")
    assert (native.status_code, native.json()["code"]) == (status, code)
    assert (chat.status_code, chat.json()["error"]["code"]) == (status, compat_code)
    assert (vllm.status_code, vllm.json()["error"]["code"]) == (status, status)
    assert ("retry-after" in native.headers) is (name == "429-retry-after")
    assert len(ask.simulator.bill) == 0
    assert [call.fault for call in ask.simulator.calls] == [name] * 3


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_connection_breaks_as_named(ask: SimulatorClient, name: str) -> None:
    ask.simulator.faults.next(name)
    error, answered = BROKEN[name]
    with pytest.raises(error):
        await ask.native(qwen3(AUDIO))
    await asyncio.sleep(0.1)
    assert [line.answered for line in ask.simulator.bill] == (
        [] if answered is None else [answered]
    )
    assert (await ask.native(qwen3(AUDIO))).status_code == 200


async def test_truncated_json_is_whole_http(ask: SimulatorClient) -> None:
    ask.simulator.faults.next("truncated-json")
    answer = await ask.native(qwen3(AUDIO))
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert ask.simulator.bill.lines[0].lost


async def test_a_proxy_page_is_returned_instead_of_an_answer(ask: SimulatorClient) -> None:
    ask.simulator.faults.next("html-page")
    answer = await ask.native(qwen3(AUDIO))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html")
    assert "x-request-id" not in answer.headers
    assert len(ask.simulator.bill) == 0


async def test_a_correct_answer_has_a_wrong_content_type(ask: SimulatorClient) -> None:
    ask.simulator.faults.next("wrong-content-type")
    answer = await ask.native(qwen3(AUDIO))
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.json()["usage"]["seconds"] == 1
    assert ask.simulator.bill.lines[0].answered


@pytest.mark.parametrize(("name", "least"), [("drip", 0.35), ("slow", 0.5)])
async def test_slow_answers_arrive_all_the_same(
    ask: SimulatorClient, name: str, least: float
) -> None:
    ask.simulator.faults.next(name)
    answer = await ask.native(qwen3(AUDIO))
    assert answer.json()["usage"]["seconds"] == 1
    assert answer.elapsed.total_seconds() > least
    assert ask.simulator.bill.lines[0].answered


async def test_a_client_that_disconnects_is_charged_for_the_lost_answer(
    ask: SimulatorClient,
) -> None:
    ask.simulator.faults.next("slow")
    ask.client.timeout = httpx.Timeout(0.2)
    with pytest.raises(httpx.ReadTimeout):
        await ask.native(qwen3(AUDIO))
    await asyncio.sleep(0.6)
    assert [line.lost for line in ask.simulator.bill] == [True]


SSE = {"X-DashScope-SSE": "enable"}


async def test_a_native_stream_fails_after_half_of_its_frames(ask: SimulatorClient) -> None:
    ask.simulator.service.words = Script("one two three four")
    ask.simulator.faults.next("error-in-stream")
    answer = await ask.native(qwen3(AUDIO), headers=SSE)
    *_, last, rest = answer.text.split("\n\n")
    assert (answer.status_code, rest) == (200, "")
    assert last.startswith("id:3\nevent:error\n:HTTP_STATUS/400\ndata:{")
    assert '"code":"DataInspectionFailed"' in last
    assert len(ask.simulator.bill) == 0


async def test_a_compatible_stream_fails_after_half_of_its_frames(ask: SimulatorClient) -> None:
    ask.simulator.faults.next("error-in-stream")
    answer = await ask.chat(compatible(AUDIO, stream=True))
    assert "event: error\n" in answer.text
    assert "[DONE]" not in answer.text


async def test_a_stream_repeats_its_frames(ask: SimulatorClient) -> None:
    ask.simulator.service.words = Script("one two")
    ask.simulator.faults.next("duplicate-frames")
    answer = await ask.native(qwen3(AUDIO), headers=SSE)
    *frames, rest = answer.text.split("\n\n")
    assert (frames[::2], rest) == (frames[1::2], "")
    assert [frame.partition("\n")[0] for frame in frames[::2]] == ["id:1", "id:2", "id:3"]
    assert ask.simulator.bill.lines[0].answered


@pytest.mark.parametrize("name", sorted(OF_STREAMS))
async def test_only_streams_have_the_faults_of_streams(ask: SimulatorClient, name: str) -> None:
    ask.simulator.faults.next(name)
    assert (await ask.native(qwen3(AUDIO))).status_code == 200
    assert (ask.simulator.calls[0].fault, len(ask.simulator.bill)) == (None, 1)


async def test_one_region_goes_down_and_comes_back() -> None:
    regions = ["cn-beijing", "ap-southeast-1"]
    async with (
        ProviderSimulator(regions=regions, words=Script("a")) as simulator,
        httpx.AsyncClient() as client,
    ):
        ask, body = SimulatorClient(simulator, client), qwen3(AUDIO)
        simulator.faults.down("cn-beijing", "500")
        assert (await ask.native(body)).status_code == 500
        assert (await ask.native(body, region="ap-southeast-1")).status_code == 200
        simulator.faults.up("cn-beijing")
        assert (await ask.native(body)).status_code == 200
        await simulator.shut("cn-beijing")
        with pytest.raises((httpx.ConnectError, httpx.ReadError)):
            await ask.native(body)
        assert (await ask.native(body, region="ap-southeast-1")).status_code == 200
