"""The simulator against requests of the real SDKs: recorded, and replayed nearly byte for byte."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.contract.recordings import ALL, AUDIO, WELCOME, Recording, replay
from tests.simulator import ProviderSimulator, Script
from tests.simulator.server import CHAT, GENERATION

TEXT = "欢迎使用阿里云 today"

pytestmark = pytest.mark.anyio

NATIVE = [one for one in ALL if one.path == GENERATION and not one.is_stream]
NATIVE_STREAMS = [one for one in ALL if one.path == GENERATION and one.is_stream]
COMPATIBLE = [one for one in ALL if one.path == CHAT and not one.is_stream]
COMPATIBLE_STREAMS = [one for one in ALL if one.path == CHAT and one.is_stream]
SELF_HOSTED = [one for one in ALL if one.path == "/v1/chat/completions"]
FAILED_STREAMS = [one for one in NATIVE_STREAMS if "sse-error" in one.name]


@pytest.fixture
async def simulator() -> AsyncIterator[ProviderSimulator]:
    """A simulator with audio at its oss:// and remote URLs."""
    stored = [
        place
        for one in NATIVE + NATIVE_STREAMS + COMPATIBLE + COMPATIBLE_STREAMS
        for place in re.findall(r'"((?:oss|https)://[^"]+)"', json.dumps(one.body))
    ]
    remote = dict.fromkeys([WELCOME, *stored], AUDIO)
    async with ProviderSimulator(
        regions=["cn-beijing", "vllm"], words=Script(TEXT), remote=remote
    ) as simulator:
        yield simulator


def check_headers(answer: httpx.Response) -> str:
    """Check the headers of every answer of the service (1.3) and return its request id."""
    UUID(answer.headers["x-request-id"])
    assert answer.headers["x-dashscope-call-gateway"] == "true"
    assert answer.headers["server"] == "istio-envoy"
    assert answer.headers["req-arrive-time"].isdecimal()
    found: str = answer.headers["x-request-id"]
    return found


def check_qwen3(body: dict[str, Any]) -> None:
    (choice,) = body["output"]["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] == [{"text": TEXT}]
    assert choice["message"]["annotations"] == [
        {"language": "en", "type": "audio_info", "emotion": "neutral"}
    ]
    assert body["usage"] == {
        "input_tokens_details": {"text_tokens": 0},
        "output_tokens_details": {"text_tokens": 8},
        "seconds": 1,
    }


def check_input_audio(body: dict[str, Any]) -> None:
    sentence = body["output"]["sentence"]
    assert body["output"]["text"] == sentence["text"] == TEXT
    assert (sentence["sentence_id"], sentence["sentence_end"]) == (1, True)
    assert (sentence["begin_time"], sentence["end_time"]) == (0, 1000)
    assert "".join(word["text"] for word in sentence["words"]) == TEXT
    usage = body["usage"]
    assert usage["duration"] == 1
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


@pytest.mark.parametrize("one", NATIVE, ids=str)
async def test_a_native_call_is_answered_as_documented(
    simulator: ProviderSimulator, one: Recording
) -> None:
    answer = await replay(simulator, one)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json;charset=UTF-8"
    body = answer.json()
    assert body.pop("request_id") == check_headers(answer) == simulator.bill.lines[0].request_id
    is_qwen3 = one.body["model"].startswith("qwen3")
    (check_qwen3 if is_qwen3 else check_input_audio)(body)


@pytest.mark.parametrize("one", NATIVE_STREAMS, ids=str)
async def test_a_native_stream_comes_in_frames(
    simulator: ProviderSimulator, one: Recording
) -> None:
    answer = await replay(simulator, one)
    assert answer.headers["content-type"] == "text/event-stream;charset=UTF-8"
    *frames, rest = answer.text.split("\n\n")
    assert rest == ""
    bodies = []
    for number, frame in enumerate(frames, 1):
        head = f"id:{number}\nevent:result\n:HTTP_STATUS/200\ndata:"
        assert frame.startswith(head)
        bodies.append(json.loads(frame.removeprefix(head)))
    assert {body["request_id"] for body in bodies} == {check_headers(answer)}
    if one.body["model"].startswith("qwen3"):
        check_choices(bodies, is_incremental=one.parameters.get("incremental_output", False))
    else:
        check_input_audio(bodies[-1])


@pytest.mark.parametrize("one", FAILED_STREAMS, ids=str)
async def test_a_stream_fails_as_recorded(simulator: ProviderSimulator, one: Recording) -> None:
    simulator.faults.next("error-in-stream")
    answer = await replay(simulator, one)
    *_, last, rest = answer.text.split("\n\n")
    assert (answer.status_code, rest) == (200, "")
    assert "\nevent:error\n:HTTP_STATUS/400\ndata:{" in last
    assert len(simulator.bill) == 0


def check_choices(bodies: list[dict[str, Any]], *, is_incremental: bool) -> None:
    choices = [body["output"]["choices"][0] for body in bodies]
    assert {choice["finish_reason"] for choice in choices[:-1]} == {"null"}
    assert choices[-1]["finish_reason"] == "stop"
    texts = [choice["message"]["content"][0]["text"] for choice in choices[:-1]]
    assert ("".join(texts) if is_incremental else texts[-1]) == TEXT
    last = [] if is_incremental else [{"text": TEXT}]
    assert choices[-1]["message"]["content"] == last
    assert [body["usage"]["seconds"] for body in bodies] == [1] * len(bodies)


@pytest.mark.parametrize("one", COMPATIBLE, ids=str)
async def test_a_compatible_call_is_answered_as_documented(
    simulator: ProviderSimulator, one: Recording
) -> None:
    answer = await replay(simulator, one)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["id"] == f"chatcmpl-{check_headers(answer)}"
    assert (body["object"], body["model"]) == ("chat.completion", "qwen3-asr-flash")
    (choice,) = body["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", TEXT)
    language = one.body.get("asr_options", {}).get("language", "en")
    assert choice["message"]["annotations"][0]["language"] == language
    usage = body["usage"]
    assert usage["prompt_tokens_details"]["audio_tokens"] == 25
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["seconds"] == 1


@pytest.mark.parametrize("one", COMPATIBLE_STREAMS, ids=str)
async def test_a_compatible_stream_is_openais(simulator: ProviderSimulator, one: Recording) -> None:
    answer = await replay(simulator, one)
    *frames, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    wants_usage = (one.body.get("stream_options") or {}).get("include_usage", False)
    assert all("usage" in chunk for chunk in chunks)
    assert (chunks[-1]["choices"] == []) is wants_usage
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert "".join(delta.get("content", "") for delta in deltas) == TEXT


@pytest.mark.parametrize("one", SELF_HOSTED, ids=str)
async def test_open_weights_answer_raw(simulator: ProviderSimulator, one: Recording) -> None:
    body = (await replay(simulator, one)).json()
    assert body["choices"][0]["message"]["content"] == f"language English<asr_text>{TEXT}"
    assert len(simulator.bill) == 0


@pytest.mark.parametrize("one", NATIVE[:1] + NATIVE_STREAMS[:1], ids=str)
async def test_a_wrong_key_has_a_native_error(simulator: ProviderSimulator, one: Recording) -> None:
    answer = await replay(simulator, one, key="sk-somebody-else")
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/json")
    assert answer.json() == {
        "code": "InvalidApiKey",
        "message": "Invalid API-key provided.",
        "request_id": check_headers(answer),
    }


@pytest.mark.parametrize("one", COMPATIBLE[:1] + COMPATIBLE_STREAMS[:1], ids=str)
async def test_a_wrong_key_has_an_openai_error(
    simulator: ProviderSimulator, one: Recording
) -> None:
    answer = await replay(simulator, one, key="sk-somebody-else")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (401, "invalid_api_key")
    assert error["message"].startswith("Incorrect API key provided.")


@pytest.mark.parametrize("one", NATIVE + COMPATIBLE, ids=str)
async def test_a_429_has_the_error_format_of_its_wire(
    simulator: ProviderSimulator, one: Recording
) -> None:
    simulator.faults.next("429-retry-after")
    answer = await replay(simulator, one)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    body = answer.json()
    code = body["error"]["code"] if "error" in body else body["code"]
    assert code == ("limit_requests" if "error" in body else "Throttling.RateQuota")


def test_there_are_recorded_requests() -> None:
    assert min(map(len, (NATIVE, NATIVE_STREAMS, COMPATIBLE, COMPATIBLE_STREAMS, SELF_HOSTED))) > 0
    assert len(FAILED_STREAMS) == 5
    assert len(ALL) == 111
