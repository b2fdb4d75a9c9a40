"""Omni in the simulator: streams only, with an instruction, priced per token (protocol 2.5)."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.simulator import ProviderSimulator, Script, counting
from tests.simulator.client import data_uri

MODEL = "qwen3-omni-flash"
PATH = "/compatible-mode/v1/chat/completions"
FOUR_SECONDS = data_uri(counting.encode([1, 2, 3, 4]))
PROMPT = "Write down what is said."

pytestmark = pytest.mark.anyio


@pytest.fixture
async def simulator() -> AsyncIterator[ProviderSimulator]:
    regions = ["cn-beijing", "ap-southeast-1", "us-east-1"]
    async with ProviderSimulator(regions=regions, words=Script("one two three four")) as simulator:
        yield simulator


def chat(model: str = MODEL, sound: str = FOUR_SECONDS, prompt: str = PROMPT, **more: Any) -> Any:
    content = [
        {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}},
        {"type": "text", "text": prompt},
    ]
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "modalities": ["text"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return {**asked, **more}


async def asked(
    simulator: ProviderSimulator, body: dict[str, Any], region: str = "cn-beijing"
) -> httpx.Response:
    bearer = {"Authorization": f"Bearer {simulator.key_of(region)}"}
    async with httpx.AsyncClient() as client:
        return await client.post(simulator.urls[region] + PATH, json=body, headers=bearer)


def chunks(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    *frames, end, rest = answer.text.split("\n\n")
    assert (end, rest) == ("data: [DONE]", "")
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def words_of(found: list[dict[str, Any]]) -> str:
    choices = (one["choices"][0] for one in found if one["choices"])
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def test_it_is_streamed_and_its_tokens_come_last(simulator: ProviderSimulator) -> None:
    *spoken, last = chunks(await asked(simulator, chat()))
    assert words_of(spoken) == "one two three four"
    assert all(one["usage"] is None for one in spoken)
    assert spoken[-1]["choices"][0]["finish_reason"] == "stop"
    usage = last["usage"]
    assert usage["prompt_tokens_details"]["audio_tokens"] == 50  # 12.5 a second
    assert usage["completion_tokens"] == 4
    assert "seconds" not in usage
    (line,) = simulator.bill
    charge = line.charge
    assert last["id"] == f"chatcmpl-{line.request_id}"
    assert (charge.input_tokens, charge.output_tokens) == (usage["prompt_tokens"], 4)
    assert charge.text_input_tokens == usage["prompt_tokens_details"]["text_tokens"] > 4


async def test_without_stream_options_there_is_no_usage(
    simulator: ProviderSimulator,
) -> None:
    found = chunks(await asked(simulator, chat(stream_options=None)))
    assert all(one["usage"] is None for one in found)
    assert simulator.bill.lines[0].charge.input_tokens


@pytest.mark.parametrize(
    ("model", "tokens"), [("qwen-omni-turbo", 100), ("qwen3.8-omni-flash", 28)]
)
async def test_each_model_has_its_own_tokens_per_second(
    simulator: ProviderSimulator, model: str, tokens: int
) -> None:
    last = chunks(await asked(simulator, chat(model, reasoning_effort="none")))[-1]
    assert last["usage"]["prompt_tokens_details"]["audio_tokens"] == tokens


async def test_one_model_reasons_unless_reasoning_is_disabled(simulator: ProviderSimulator) -> None:
    thinking = chunks(await asked(simulator, chat("qwen3.8-omni-flash")))
    quiet = chunks(await asked(simulator, chat("qwen3.8-omni-flash", reasoning_effort="none")))
    assert words_of(thinking) == words_of(quiet)
    costs = [found[-1]["usage"]["completion_tokens"] for found in (thinking, quiet)]
    assert costs[0] > costs[1] == 4


async def test_an_answer_has_at_most_max_tokens(simulator: ProviderSimulator) -> None:
    *spoken, last = chunks(await asked(simulator, chat(max_tokens=2)))
    assert words_of(spoken) == "one two"
    assert spoken[-1]["choices"][0]["finish_reason"] == "length"
    assert last["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (chat(stream=False, stream_options=None), "only support stream mode"),
        (chat(prompt=" "), "text beside the audio"),
        (chat(modalities=["audio"]), "modalities"),
        (chat(modalities="text"), "modalities"),
        (chat(messages=[{"role": "user", "content": "hello"}]), "exactly one input_audio"),
        (chat("qwen-omni-turbo", data_uri(counting.encode(range(181)))), "180s"),
        (chat(sound="data:audio/wav;base64," + "A" * (10 << 20)), "max bytes per data-uri"),
    ],
)
async def test_invalid_requests_are_rejected_and_free(
    simulator: ProviderSimulator, body: dict[str, Any], words: str
) -> None:
    answer = await asked(simulator, body)
    assert answer.status_code == 400
    said = json.loads(answer.text.removeprefix("data: "))["error"]
    assert said["code"] == "invalid_parameter_error"
    assert words in said["message"]
    assert not simulator.bill.lines


async def test_omni_is_not_in_every_region(simulator: ProviderSimulator) -> None:
    assert (await asked(simulator, chat(), "ap-southeast-1")).status_code == 200
    assert (await asked(simulator, chat(), "us-east-1")).status_code == 404
