"""The simulator's tasks, uploads and open weights with replayed requests of the real SDKs."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.contract.recordings import ALL, AUDIO, WELCOME, Recording, named, replay
from tests.simulator import Delays, ProviderSimulator, Script
from tests.simulator.server import CHAT, GENERATION, TASKS, TRANSCRIPTION
from tests.simulator.store import BUCKET

TEXT = "欢迎使用阿里云 today"
SAMPLES = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio/hello_world_"
REMOTE = dict.fromkeys([WELCOME, f"{SAMPLES}female2.wav", f"{SAMPLES}male2.wav"], AUDIO)
OPEN = "Qwen/Qwen3-ASR-1.7B"
SDKS = ["ds1246", "ds1278", "ds202"]

SUBMITS = [one for one in ALL if one.path == TRANSCRIPTION]
WRONG = [one for one in SUBMITS if "create-qwen3-filetrans" in one.name]
RIGHT = [one for one in SUBMITS if one not in WRONG]
LISTS = [one for one in ALL if one.bare_path == TASKS]
CANCELS = [one for one in ALL if one.path.endswith("/cancel")]
POLLS = [one for one in ALL if one.path.startswith(f"{TASKS}/") and one not in CANCELS]
STRANGERS = [one for one in POLLS if "8fab76d0" not in one.path]
FORMS = [one for one in ALL if one.path == "/v1/audio/transcriptions"]
GOOD_FORMS = [one for one in FORMS if "err" not in one.name]

pytestmark = pytest.mark.anyio


@pytest.fixture
async def simulator() -> AsyncIterator[ProviderSimulator]:
    async with ProviderSimulator(
        regions=["cn-beijing", "vllm"],
        keys={"vllm": ["sk-of-ones-own"]},
        words=Script(TEXT),
        remote=REMOTE,
        delays=Delays(0, 0),
    ) as simulator:
        yield simulator


def test_every_recording_is_replayed_somewhere() -> None:
    kinds = (SUBMITS, LISTS, CANCELS, POLLS, STRANGERS, FORMS)
    assert list(map(len, kinds)) == [14, 3, 4, 18, 4, 18]
    paths = {one.bare_path for one in ALL} - {one.bare_path for kind in kinds for one in kind}
    uploads = {"/api/v1/uploads", BUCKET}
    assert paths == {GENERATION, CHAT, "/v1/chat/completions", "/v1/models"} | uploads


@pytest.mark.parametrize("one", RIGHT, ids=str)
async def test_a_submission_creates_a_task(simulator: ProviderSimulator, one: Recording) -> None:
    answer = await replay(simulator, one)
    body = answer.json()
    assert (answer.status_code, body["request_id"]) == (200, answer.headers["x-request-id"])
    assert body["output"] == {"task_status": "PENDING", "task_id": simulator.tasks[0].id}
    await simulator.tasks_ended()
    (task,) = simulator.tasks
    assert task.status == "SUCCEEDED"
    urls = one.body["input"].get("file_urls") or [one.body["input"]["file_url"]]
    assert [subtask.url for subtask in task.subtasks] == urls
    assert simulator.bill.lines[0].seconds == len(urls)


@pytest.mark.parametrize("one", WRONG, ids=str)
async def test_a_submission_of_an_sdk_without_qwen3_support_is_rejected(
    simulator: ProviderSimulator, one: Recording
) -> None:
    answer = await replay(simulator, one)
    assert (answer.status_code, answer.json()["code"]) == (400, "InvalidParameter")
    assert answer.json()["message"] == "input must contain file_url"


@pytest.mark.parametrize("one", [one for one in SUBMITS if "err401" in one.name], ids=str)
async def test_a_wrong_key_submits_nothing(simulator: ProviderSimulator, one: Recording) -> None:
    answer = await replay(simulator, one, key="sk-somebody-else")
    assert (answer.status_code, answer.json()["code"]) == (401, "InvalidApiKey")
    assert simulator.tasks == []


async def test_an_sdk_retries_three_times(simulator: ProviderSimulator) -> None:
    simulator.faults.next("429", times=2)
    tries = [one for one in SUBMITS if "err429" in one.name]
    statuses = [(await replay(simulator, one)).status_code for one in tries]
    assert statuses == [429, 429, 200]
    assert len(simulator.tasks) == 1


def submit_of(one: Recording) -> Recording:
    """Return the submission that the SDK would have sent before a poll."""
    sdk = one.name.partition("-")[0]
    if "filetrans" in one.name:
        return named(sdk, "filetrans-async")
    if sdk == "ds202":
        return named(sdk, "default-model-01" if "default" in one.name else "jobs-create-01")
    return named(sdk, "funasr-async")


@pytest.mark.parametrize("one", [one for one in POLLS if one not in STRANGERS], ids=str)
async def test_a_poll_returns_the_final_state(simulator: ProviderSimulator, one: Recording) -> None:
    task_id = (await replay(simulator, submit_of(one))).json()["output"]["task_id"]
    await simulator.tasks_ended()
    answer = await replay(simulator, one.to(f"{TASKS}/{task_id}"))
    body = answer.json()
    output = body["output"]
    assert (answer.status_code, output["task_status"]) == (200, "SUCCEEDED")
    if "filetrans" in one.name:
        assert body["usage"] == {"seconds": 1}
        assert {*output["result"]} == {"transcription_url"}
    else:
        files = output["task_metrics"]["TOTAL"]
        assert body["usage"]["duration"] == files == len(output["results"])


@pytest.mark.parametrize("one", STRANGERS + POLLS[:1], ids=str)
async def test_an_unknown_task_has_the_status_unknown(
    simulator: ProviderSimulator, one: Recording
) -> None:
    answer = await replay(simulator, one)
    named_in_path = one.path.rpartition("/")[2]
    unknown = {"task_id": named_in_path, "task_status": "UNKNOWN"}
    assert (answer.status_code, answer.json()["output"]) == (200, unknown)
    assert (await replay(simulator, one, key="sk-somebody-else")).status_code == 401


@pytest.mark.parametrize("one", CANCELS, ids=str)
async def test_a_task_is_cancelled(simulator: ProviderSimulator, one: Recording) -> None:
    answer = await replay(simulator, one)
    assert (answer.status_code, answer.json()["code"]) == (400, "UnsupportedOperation")
    simulator._tasks.delays = Delays(pending=600)
    task_id = (await replay(simulator, submit_of(one))).json()["output"]["task_id"]
    answer = await replay(simulator, one.to(f"{TASKS}/{task_id}/cancel"))
    assert (answer.status_code, {*answer.json()}) == (200, {"request_id"})
    assert simulator.tasks[0].status == "CANCELED"


@pytest.mark.parametrize("one", LISTS, ids=str)
async def test_lists_are_pages(simulator: ProviderSimulator, one: Recording) -> None:
    simulator._tasks.delays = Delays(running=600)
    await replay(simulator, named("ds1278", "funasr-async"))
    while simulator.tasks[0].status != "RUNNING":
        await replay(simulator, POLLS[0])
    body = (await replay(simulator, one)).json()
    assert (body["page_no"], body["page_size"], body["total"]) == (1, 10, 1)
    assert body["data"][0]["task_id"] == simulator.tasks[0].id
    await replay(
        simulator, named("ds1278", "filetrans-cancel").to(f"{TASKS}/{simulator.tasks[0].id}/cancel")
    )
    assert simulator.tasks[0].status == "RUNNING"


@pytest.mark.parametrize("sdk", SDKS)
async def test_a_local_file_takes_three_requests(simulator: ProviderSimulator, sdk: str) -> None:
    ask, form, call = (named(sdk, f"local-file-0{number}") for number in (1, 2, 3))
    policy = (await replay(simulator, ask)).json()["data"]
    recorded_key = form.field("key") or ""
    key = f"{policy['upload_dir']}/{recorded_key.rpartition('/')[2]}"
    sent = form.filled(
        OSSAccessKeyId=policy["oss_access_key_id"],
        Signature=policy["signature"],
        policy=policy["policy"],
        key=key,
    )
    assert policy["upload_host"] == simulator.store_url + form.path
    answer = await replay(simulator, sent, url=simulator.store_url)
    assert (answer.status_code, answer.content) == (200, b"")
    assert (await replay(simulator, form, url=simulator.store_url)).status_code == 403
    answer = await replay(simulator, call.holding(f"oss://{recorded_key}", f"oss://{key}"))
    message = answer.json()["output"]["choices"][0]["message"]
    assert message["content"] == [{"text": TEXT}]


def expected(one: Recording) -> tuple[int, Any]:
    """Return the status and body, or the start of the message, of vLLM's answer to a form."""
    form = one.field("response_format") or "json"
    if form in {"srt", "vtt"}:
        return 400, "Currently only support response_format"
    if form in {"verbose_json", "diarized_json"}:
        return 400, f"Currently do not support {form}"
    return 200, {"text": TEXT, "usage": {"type": "duration", "seconds": 1}}


@pytest.mark.parametrize("one", GOOD_FORMS, ids=str)
async def test_open_weights_take_the_forms_of_openai(
    simulator: ProviderSimulator, one: Recording
) -> None:
    model = one.field("model") or ""
    answer = await replay(simulator, one, key="sk-of-ones-own")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, 404)
    assert answer.json()["error"]["message"].startswith(f"The model `{model}` does not exist")
    answer = await replay(simulator, one.filled(model=OPEN), key="sk-of-ones-own")
    status, words = expected(one)
    assert answer.status_code == status
    if one.field("stream"):
        *frames, done, rest = answer.text.split("\n\n")
        chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames]
        texts = [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
        assert ("".join(texts), done, rest) == (TEXT, "data: [DONE]", "")
    elif status == 200:
        assert answer.json() == words
    else:
        assert answer.json()["error"]["message"].startswith(words)


@pytest.mark.parametrize("one", [one for one in FORMS if "err" in one.name], ids=str)
async def test_open_weights_have_errors_in_the_format_of_vllm(
    simulator: ProviderSimulator, one: Recording
) -> None:
    if "err429" in one.name:
        simulator.faults.next("429")
        key, status = "sk-of-ones-own", 429
    else:
        key, status = "sk-somebody-else", 401
    answer = await replay(simulator, one, key=key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)


async def test_open_weights_list_their_model(simulator: ProviderSimulator) -> None:
    answer = await replay(simulator, named("models-list"))
    assert OPEN in [model["id"] for model in answer.json()["data"]]
