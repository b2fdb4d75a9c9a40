"""The simulator answers any JSON body with a valid response or error; it never crashes."""

import copy
from collections.abc import Iterator
from itertools import chain, product
from typing import Any

import httpx
import pytest

from tests.simulator import ProviderSimulator, Script, counting
from tests.simulator.client import (
    SimulatorClient,
    compatible,
    data_uri,
    filetrans,
    input_audio,
    qwen3,
    transcription,
)

WAV = counting.encode([1])
AUDIO = data_uri(WAV)
ODD: list[Any] = [None, 1, "x", [], {}, [1], {"a": 1}, True]
OPTIONS = {"asr_options": {"language": "en"}, "incremental_output": True}
NATIVE = [
    {**qwen3(AUDIO, context="names"), "parameters": OPTIONS},
    input_audio(AUDIO, language_hints=["en"]),
    input_audio(AUDIO, format="pcm"),
]
SUBMITS = [
    filetrans("https://far.example/a.wav", channel_id=[0], corpus={"text": "a"}, enable_words=True),
    {
        **transcription("https://far.example/a.wav", language_hints=["en"], speaker_count=2),
        "resources": [{"resource_id": "p", "resource_type": "asr_phrase"}],
    },
    {
        "model": "qwen-audio-3.1-asr-flash-filetrans",
        "input": {
            "file_urls": ["https://far.example/a.wav"],
            "context": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}],
        },
        "parameters": {"diarization_enabled": True, "vocabulary": {"Ada": 4}},
    },
]
CHAT = compatible(AUDIO, asr_options={"language": "en"}, stream=True, stream_options={})

pytestmark = pytest.mark.anyio


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, list):
        value = dict(enumerate(value))
    for name, one in value.items() if isinstance(value, dict) else ():
        yield from places(one, (*path, name))


def spoiled(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the body with each of its values replaced by each unusual value."""
    for path, odd in product(places(body), ODD):
        copied: Any = copy.deepcopy(body)
        holder = copied
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = odd
        yield copied


@pytest.mark.parametrize("stream", [True, False])
async def test_unusual_bodies_have_valid_answers(*, stream: bool) -> None:
    headers = {"X-DashScope-SSE": "enable"} if stream else {}
    vllm = {**compatible(AUDIO), "model": "Qwen/Qwen3-ASR-0.6B", "stream": stream}
    vllm["messages"].append({"role": "assistant", "content": "language English<asr_text>"})
    vllm["messages"][0]["content"][0]["input_audio"] |= {"format": "wav"}
    vllm["continue_final_message"] = True
    statuses = set()
    async with (
        ProviderSimulator(regions=["cn-beijing", "vllm"], words=Script("a")) as simulator,
        httpx.AsyncClient() as client,
    ):
        ask = SimulatorClient(simulator, client)
        for body in chain.from_iterable(map(spoiled, NATIVE)):
            statuses.add((await ask.native(body, headers=headers)).status_code)
        for body in spoiled(CHAT):
            statuses.add((await ask.chat(body)).status_code)
        for body in spoiled(vllm):
            answer = await ask.post("/v1/chat/completions", body, region="vllm")
            statuses.add(answer.status_code)
        assert simulator.service.failures == []
    assert statuses == {200, 400, 404}


async def test_unusual_submissions_have_valid_answers() -> None:
    statuses, ends = set(), set()
    async with (
        ProviderSimulator(
            words=Script("a"), remote={"https://far.example/a.wav": WAV}
        ) as simulator,
        httpx.AsyncClient() as client,
    ):
        ask = SimulatorClient(simulator, client)
        for body in chain.from_iterable(map(spoiled, SUBMITS)):
            statuses.add((await ask.submit(body)).status_code)
        await simulator.tasks_ended()
        for task in simulator.tasks:
            output = (await ask.task(task.id))["output"]
            ends.add(output.get("code", output["task_status"]))
        assert simulator.service.failures == []
    assert statuses == {200, 400}
    assert ends == {"SUCCEEDED", "NO_INPUT_AUDIO_ERROR"}, "one channel, and [1] was asked for"


async def test_invalid_json_is_rejected() -> None:
    async with ProviderSimulator(words=Script("a")) as simulator, httpx.AsyncClient() as client:
        url = simulator.url + "/api/v1/services/aigc/multimodal-generation/generation"
        bearer = {"authorization": f"Bearer {simulator.key}"}
        assert (await client.post(url, content=b"")).status_code == 401
        for content in (b"", b"{", b"[]", b"\xff"):
            answer = await client.post(url, content=content, headers=bearer)
            assert (answer.status_code, answer.json()["code"]) == (400, "InvalidParameter")
