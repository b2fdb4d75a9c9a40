"""The simulator rejects the same requests as the service, with the same messages, free of charge."""

import io
import wave
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.simulator import ProviderSimulator, Script, counting
from tests.simulator.client import SimulatorClient, compatible, data_uri, input_audio, qwen3
from tests.simulator.file_host import FileHost

AUDIO = data_uri(counting.encode([1]))
FAR = "http://far.example/a.wav"
STORED = "oss://dashscope-instant/a.wav"
WRONG_URL = "url error, please check url！For details, see: https://help.aliyun.com/zh/model-studio/error-code#error-url"  # noqa: RUF001
LARGE = "Exceeded limit on max bytes per data-uri item : 10485760"
BAD_URL = "The provided URL does not appear to be valid. Ensure it is correctly formatted."
SHUT = "http://127.0.0.1:9/a.wav"

pytestmark = pytest.mark.anyio


def silence(seconds: float, rate: int = 8000, width: int = 2) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, width, rate, 0, "NONE", ""))
        file.writeframes(bytes(int(seconds * rate) * width))
    return out.getvalue()


@pytest.fixture
async def simulator() -> AsyncIterator[ProviderSimulator]:
    remote = {STORED: counting.encode([1]), FAR: silence(250, rate=24000)}
    regions = ["cn-beijing", "ap-southeast-1", "us-east-1", "vllm"]
    async with ProviderSimulator(
        regions=regions, words=Script("hello"), remote=remote
    ) as simulator:
        yield simulator


@pytest.fixture
async def ask(simulator: ProviderSimulator) -> AsyncIterator[SimulatorClient]:
    async with httpx.AsyncClient() as client:
        yield SimulatorClient(simulator, client)


def two_audios() -> dict[str, Any]:
    body = qwen3(AUDIO)
    body["input"]["messages"][0]["content"] *= 2
    return body


def two_users() -> dict[str, Any]:
    body = qwen3(AUDIO)
    body["input"]["messages"] *= 2
    return body


def without_format() -> dict[str, Any]:
    body = input_audio(AUDIO)
    del body["parameters"]["format"]
    return body


REJECTED = {
    "an async model": (qwen3(AUDIO, model="paraformer-v2"), 400, "InvalidParameter", WRONG_URL),
    "no such model": (qwen3(AUDIO, model="qwen9"), 400, "InvalidParameter", WRONG_URL),
    "a retired model": (
        qwen3(AUDIO, model="qwen-audio-asr"),
        404,
        "ModelNotFound",
        "The model `qwen-audio-asr` does not exist or you do not have access to it.",
    ),
    "no model": ({"input": {}}, 400, "BadRequest.EmptyModel", None),
    "no input": ({"model": "qwen3-asr-flash"}, 400, "BadRequest.EmptyInput", None),
    "two audios": (two_audios(), 400, "BadRequest.IllegalInput", None),
    "two user messages": (two_users(), 400, "InvalidParameter", None),
    "no format": (without_format(), 400, "BadRequest.EmptyParameters", None),
    "the other shape": (
        qwen3(AUDIO, model="qwen-audio-3.0-asr-flash"),
        400,
        "BadRequest.EmptyParameters",
        None,
    ),
    "bare base64": (qwen3(AUDIO.partition(",")[2]), 400, "InvalidParameter", BAD_URL),
    "broken base64": (qwen3("data:audio/wav;base64,!!!"), 400, "InvalidParameter", BAD_URL),
    "empty audio": (qwen3("data:audio/wav;base64,"), 400, "InvalidParameter", "The audio is empty"),
    "no audio at all": (
        qwen3(data_uri(b"<html>")),
        400,
        "InvalidParameter",
        "The audio format is illegal and cannot be opened.",
    ),
    "a shut door": (
        qwen3(SHUT),
        400,
        "InvalidFile.DownloadFailed",
        "The audio file cannot be downloaded.",
    ),
    "a far address": (qwen3("http://10.0.0.1/a.wav"), 400, "InvalidFile.DownloadFailed", None),
    "a large file": (qwen3(FAR), 400, "BadRequest.TooLarge", None),
    "a large data URI": (
        qwen3(data_uri(silence(250, rate=16000))),
        400,
        "BadRequest.TooLarge",
        LARGE,
    ),
    "301 s": (
        qwen3(data_uri(silence(301))),
        400,
        "InvalidFile.AudioLengthError",
        "Audio length must be between 1s and 300s.",
    ),
    "301.008 s of 3.x": (
        input_audio(data_uri(silence(301.008))),
        400,
        "AUDIO_DURATION_TOO_LONG",
        "audio duration (301008.0ms) over service process (300s)",
    ),
    "too much context": (
        qwen3(AUDIO, context="\u597d" * 10_001),
        400,
        "InvalidParameter",
        "Range of input length should be [1, 10000]",
    ),
    "an upload unresolved": (qwen3(STORED), 400, "InvalidParameter.DataInspection", BAD_URL),
}  # fmt: skip


@pytest.mark.parametrize(("body", "status", "code", "message"), REJECTED.values(), ids=REJECTED)
async def test_bad_requests_are_refused(
    ask: SimulatorClient, body: dict[str, Any], status: int, code: str, message: str | None
) -> None:
    answer = await ask.native(body)
    found = answer.json()
    assert (answer.status_code, found["code"]) == (status, code)
    assert message is None or found["message"] == message
    assert found["request_id"] == answer.headers["x-request-id"]
    assert len(ask.simulator.bill) == 0


async def test_a_key_is_valid_in_its_own_region_only(ask: SimulatorClient) -> None:
    foreign = ask.simulator.key_of("ap-southeast-1")
    answer = await ask.native(qwen3(AUDIO), key=foreign)
    assert (answer.status_code, answer.json()["code"]) == (401, "InvalidApiKey")
    answer = await ask.native(qwen3(AUDIO), key=foreign, region="ap-southeast-1")
    assert answer.status_code == 200


async def test_the_async_header_is_rejected(ask: SimulatorClient) -> None:
    answer = await ask.native(qwen3(AUDIO), headers={"X-DashScope-Async": "enable"})
    assert (answer.status_code, answer.json()["code"]) == (403, "AccessDenied")
    words = "current user api does not support asynchronous calls."
    assert answer.json()["message"] == words


async def test_us_east_1_has_its_own_model_names_and_no_compatible_mode(
    ask: SimulatorClient,
) -> None:
    body = qwen3(AUDIO, model="qwen3-asr-flash-us")
    assert (await ask.native(body, region="us-east-1")).status_code == 200
    assert (await ask.native(body)).status_code == 400
    answer = await ask.chat(compatible(AUDIO), region="us-east-1")
    assert answer.json()["error"]["code"] == "model_not_supported"


@pytest.mark.parametrize(
    "body",
    [
        qwen3(AUDIO, context="names: Ada"),
        qwen3(AUDIO, context="a " * 9_999),
        {**qwen3(AUDIO), "parameters": {"asr_options": {"enable_lid": True}, "nonsense": 1}},
        qwen3(data_uri(silence(0.3))),
        qwen3(data_uri(silence(300))),
        qwen3(FAR.replace("a.wav", "b.wav")),
        input_audio(AUDIO, model="fun-asr-flash-2026-06-15", vocabulary_id="v"),
    ],
    ids=[
        "context",
        "much context",
        "unknown options",
        "a moment",
        "300 s",
        "an address",
        "fun-asr-flash",
    ],
)
async def test_unusual_valid_requests_are_accepted(
    ask: SimulatorClient, body: dict[str, Any]
) -> None:
    ask.simulator.service.remote = {FAR.replace("a.wav", "b.wav"): silence(1)}
    assert (await ask.native(body)).status_code == 200


async def test_an_upload_is_found_with_the_header(ask: SimulatorClient) -> None:
    resolve = {"X-DashScope-OssResourceResolve": "enable"}
    assert (await ask.native(qwen3(STORED), headers=resolve)).status_code == 200


async def test_audio_without_speech_is_an_error_or_empty() -> None:
    async with ProviderSimulator(words=Script("")) as simulator, httpx.AsyncClient() as client:
        ask = SimulatorClient(simulator, client)
        answer = await ask.native(qwen3(AUDIO))
        assert answer.json()["output"]["choices"][0]["message"]["content"] == []
        answer = await ask.native(input_audio(AUDIO))
        assert (answer.status_code, answer.json()["code"]) == (400, "ASR_RESPONSE_HAVE_NO_WORDS")
        assert [line.model for line in simulator.bill] == ["qwen3-asr-flash"]


@pytest.mark.parametrize("nesting", ["flat", "doubled", "nested"])
async def test_input_audio_comes_in_every_shape_seen(nesting: Any) -> None:
    async with (
        ProviderSimulator(words=Script("hi"), nesting=nesting) as simulator,
        httpx.AsyncClient() as client,
    ):
        body = (await SimulatorClient(simulator, client).native(input_audio(AUDIO))).json()
    inner = body["output"]["output"] if nesting == "nested" else body["output"]
    assert inner["sentence"]["text"] == "hi"
    assert ("sentence" in body) is (nesting == "doubled")


async def test_a_revived_model_counts_tokens() -> None:
    async with (
        ProviderSimulator(words=Script("hi"), revived=["qwen-audio-asr"]) as simulator,
        httpx.AsyncClient() as client,
    ):
        body = (
            await SimulatorClient(simulator, client).native(qwen3(AUDIO, model="qwen-audio-asr"))
        ).json()
    assert body["usage"] == {"audio_tokens": 25, "input_tokens": 25, "output_tokens": 1}


async def test_a_refused_stream_of_the_compatible_mode_is_an_event(ask: SimulatorClient) -> None:
    answer = await ask.chat(compatible("data:audio/wav;base64,", stream=True))
    assert answer.status_code == 400
    assert answer.text.startswith('data: {"error":')
    assert "<400> InternalError.Algo.InvalidParameter: The audio is empty" in answer.text
    assert answer.text.endswith("}\n\n")


async def test_the_compatible_mode_has_its_limit_of_context_too(ask: SimulatorClient) -> None:
    body = compatible(AUDIO)
    body["messages"].insert(0, {"role": "system", "content": "a " * 10_001})
    error = (await ask.chat(body)).json()["error"]
    words = "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 10000]"
    assert (error["code"], error["message"]) == ("invalid_parameter_error", words)


async def test_a_redirect_to_another_host_is_not_followed(ask: SimulatorClient) -> None:
    away = (302, {"location": "http://10.0.0.1/a.wav"}, b"")
    near = (302, {"location": "/b.wav"}, b"")
    async with FileHost({"/a": away, "/b": near, "/b.wav": counting.encode([1])}) as host:
        answer = await ask.native(qwen3(f"{host.url}/a"))
        assert answer.json()["code"] == "InvalidFile.DownloadFailed"
        assert (await ask.native(qwen3(f"{host.url}/b"))).status_code == 200


VLLM = "/v1/audio/transcriptions"
FORMS = [
    ({"response_format": "text"}, 200, None),
    ({"response_format": "srt"}, 400, "Currently only support response_format"),
    ({"response_format": "verbose_json"}, 400, "Currently do not support verbose_json"),
    ({"language": "fil"}, 400, "Unsupported language"),
    ({"language": "yue"}, 200, None),
    ({"model": "whisper-1"}, 404, "The model `whisper-1` does not exist"),
]


@pytest.mark.parametrize(("form", "status", "words"), FORMS, ids=lambda value: str(value)[:40])
async def test_vllm_has_its_own_rules(
    ask: SimulatorClient, form: dict[str, str], status: int, words: str | None
) -> None:
    files = {"file": ("a.wav", counting.encode([1]))}
    url = ask.simulator.urls["vllm"] + VLLM
    answer = await ask.client.post(url, data=form, files=files)
    assert answer.status_code == status
    if words is None:
        assert answer.json() == {"text": "hello", "usage": {"type": "duration", "seconds": 1}}
    else:
        error = answer.json()["error"]
        assert error["code"] == status
        assert error["message"].startswith(words)


async def test_vllm_streams_chunks_of_its_own(ask: SimulatorClient) -> None:
    files = {"file": ("a.wav", counting.encode([1]))}
    url = ask.simulator.urls["vllm"] + VLLM
    answer = await ask.client.post(url, data={"stream": "true"}, files=files)
    assert '"object": "transcription.chunk"' in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")


async def test_vllm_fails_for_a_data_uri_in_input_audio(ask: SimulatorClient) -> None:
    body = compatible(AUDIO, model="Qwen/Qwen3-ASR-0.6B")
    body["messages"][0]["content"][0]["input_audio"]["format"] = "wav"
    answer = await ask.post("/v1/chat/completions", body, region="vllm")
    assert answer.status_code == 400
