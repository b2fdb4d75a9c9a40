"""The simulator's asynchronous models: task states, task responses and rejected requests."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.simulator import Delays, ProviderSimulator, Script, counting
from tests.simulator.client import SimulatorClient, filetrans, transcription
from tests.simulator.file_host import FileHost

AUDIO = counting.encode([1, 2, 3])
DAY = 24 * 3600
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}")
WRONG_URL = "url error, please check url！For details, see: https://help.aliyun.com/zh/model-studio/error-code#error-url"  # noqa: RUF001
FAR = "https://far.example/a.wav"

pytestmark = pytest.mark.anyio


@pytest.fixture
async def host() -> AsyncIterator[FileHost]:
    async with FileHost({"/a.wav": AUDIO, "/b.wav": AUDIO}) as host:
        yield host


@pytest.fixture
async def simulator() -> AsyncIterator[ProviderSimulator]:
    keys = {"cn-beijing": ["sk-one", "sk-two"]}
    regions = ["cn-beijing", "ap-southeast-1", "us-east-1"]
    async with ProviderSimulator(
        regions=regions,
        keys=keys,
        delays=Delays(pending=0, running=0),
        words=Script("hello world"),
        remote={FAR: AUDIO},
        rounding="ceil",
    ) as simulator:
        yield simulator


@pytest.fixture
async def ask(simulator: ProviderSimulator) -> AsyncIterator[SimulatorClient]:
    async with httpx.AsyncClient() as client:
        yield SimulatorClient(simulator, client)


async def test_a_task_of_qwen3_passes_through_its_states(
    ask: SimulatorClient, host: FileHost
) -> None:
    simulator = ask.simulator
    simulator._tasks.delays = Delays(pending=60, running=600)
    answer = await ask.submit(filetrans(f"{host.url}/a.wav"))
    task_id = answer.json()["output"]["task_id"]
    assert answer.json() == {
        "output": {"task_status": "PENDING", "task_id": task_id},
        "request_id": answer.headers["x-request-id"],
    }
    assert (await ask.task(task_id))["output"]["task_status"] == "PENDING"
    assert host.asked == []
    simulator.clock.advance(61)
    running = await until(ask, task_id, "RUNNING")
    assert {*running} == {"request_id", "output"}
    assert running["output"].pop("scheduled_time") > running["output"].pop("submit_time")
    metrics = {"TOTAL": 1, "SUCCEEDED": 0, "FAILED": 0}
    named = {"task_id": task_id, "task_status": "RUNNING"}
    assert running["output"] == {**named, "task_metrics": metrics}
    while not host.asked:
        await ask.task(task_id)
    simulator.clock.advance(601)
    ended = await until(ask, task_id, "SUCCEEDED")
    output = ended["output"]
    times = [output[f"{name}_time"] for name in ("submit", "scheduled", "end")]
    assert all(TIME.fullmatch(time) for time in times)
    assert times == sorted(times)
    assert {*output} == {
        *("task_id", "task_status", "result"),
        *("submit_time", "scheduled_time", "end_time"),
    }
    assert ended["usage"] == {"seconds": 3}
    assert {*output["result"]} == {"transcription_url"}


async def until(ask: SimulatorClient, task_id: str, status: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            found = await ask.task(task_id)
            if found["output"]["task_status"] == status:
                return found


async def test_times_are_those_of_beijing(ask: SimulatorClient, host: FileHost) -> None:
    output = (await ask.ended(filetrans(f"{host.url}/a.wav")))["output"]
    shown = datetime.strptime(output["submit_time"], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
    assert abs(shown - timedelta(hours=8) - datetime.now(UTC)) < timedelta(seconds=30)


async def test_the_other_models_return_a_result_per_file(
    ask: SimulatorClient, host: FileHost
) -> None:
    urls = [f"{host.url}/a.wav", f"{host.url}/none.wav"]
    ended = await ask.ended(transcription(*urls))
    output = ended["output"]
    good, bad = output["results"]
    assert good == {
        "file_url": urls[0],
        "transcription_url": good["transcription_url"],
        "subtask_status": "SUCCEEDED",
    }
    assert bad == {
        "file_url": urls[1],
        "code": "InvalidFile.DownloadFailed",
        "message": "The audio file cannot be downloaded.",
        "subtask_status": "FAILED",
    }
    assert output["task_status"] == "SUCCEEDED"
    assert output["task_metrics"] == {"TOTAL": 2, "SUCCEEDED": 1, "FAILED": 1}
    assert ended["usage"] == {"duration": 3}


async def test_a_task_without_any_result_has_failed(ask: SimulatorClient, host: FileHost) -> None:
    ended = await ask.ended(transcription(f"{host.url}/none.wav"))
    output = ended["output"]
    assert (output["task_status"], output["code"]) == ("FAILED", "InvalidFile.DownloadFailed")
    assert output["task_metrics"] == {"TOTAL": 1, "SUCCEEDED": 0, "FAILED": 1}
    assert output["results"][0]["subtask_status"] == "FAILED"
    assert "usage" not in ended
    ended = await ask.ended(filetrans(f"{host.url}/none.wav"))
    output = ended["output"]
    assert (output["task_status"], output["code"]) == ("FAILED", "FILE_404_NOT_FOUND")
    assert output["message"] == "FILE_404_NOT_FOUND"
    assert not {"results", "result", "usage"} & {*output, *ended}
    assert len(ask.simulator.bill) == 0


async def test_other_keys_cannot_read_a_task(ask: SimulatorClient, host: FileHost) -> None:
    task_id = await ask.submitted(filetrans(f"{host.url}/a.wav"), key="sk-one")
    for asked, key in (("made-up", "sk-one"), (task_id, "sk-two")):
        answer = await ask.get(f"/api/v1/tasks/{asked}", key=key)
        unknown = {"task_id": asked, "task_status": "UNKNOWN"}
        request_id = answer.headers["x-request-id"]
        assert answer.status_code == 200
        assert answer.json() == {"request_id": request_id, "output": unknown}
    answer = await ask.get("/api/v1/tasks/made-up", key="sk-nobody")
    assert (answer.status_code, answer.json()["code"]) == (401, "InvalidApiKey")


async def test_a_task_expires_after_a_day(ask: SimulatorClient, host: FileHost) -> None:
    ended = await ask.ended(filetrans(f"{host.url}/a.wav"))
    url = ended["output"]["result"]["transcription_url"]
    assert (await ask.client.get(url)).status_code == 200
    ask.simulator.clock.advance(DAY - 60)
    task_id = ended["output"]["task_id"]
    assert (await ask.task(task_id))["output"]["task_status"] == "SUCCEEDED"
    assert (await ask.client.get(url)).status_code == 200
    ask.simulator.clock.advance(120)
    assert (await ask.task(task_id))["output"]["task_status"] == "UNKNOWN"
    answer = await ask.client.get(url)
    assert answer.status_code == 403
    assert "<Code>AccessDenied</Code><Message>Request has expired.</Message>" in answer.text


async def test_results_need_a_signature_and_no_key(ask: SimulatorClient, host: FileHost) -> None:
    ended = await ask.ended(filetrans(f"{host.url}/a.wav"))
    url = httpx.URL(ended["output"]["result"]["transcription_url"])
    assert str(url).startswith(ask.simulator.store_url)
    assert not str(url).startswith(ask.simulator.url)
    later = url.copy_set_param("Expires", str(int(url.params["Expires"]) + 1))
    other = url.copy_with(path=url.path.replace("-0.json", "-1.json"))
    for wrong in (later, other, url.copy_remove_param("Signature")):
        answer = await ask.client.get(wrong)
        assert (answer.status_code, "SignatureDoesNotMatch" in answer.text) == (403, True)
    bearer = {"authorization": f"Bearer {ask.simulator.key}"}
    assert (await ask.client.get(url, headers=bearer)).status_code == 400


async def test_only_pending_tasks_can_be_cancelled(ask: SimulatorClient, host: FileHost) -> None:
    ask.simulator._tasks.delays = Delays(pending=60, running=0)
    body = filetrans(f"{host.url}/a.wav")
    first, second = await ask.submitted(body), await ask.submitted(body)
    answer = await ask.cancel(first)
    assert (answer.status_code, {*answer.json()}) == (200, {"request_id"})
    ask.simulator.clock.advance(61)
    await ask.simulator.tasks_ended()
    assert (await ask.task(first))["output"]["task_status"] == "CANCELED"
    for late in (first, second, "made-up"):
        answer = await ask.cancel(late)
        assert (answer.status_code, answer.json()["code"]) == (400, "UnsupportedOperation")
        words = "Failed to cancel the task, please confirm if the task is in PENDING status."
        assert answer.json()["message"] == words
    assert [line.request_id for line in ask.simulator.bill] == [
        ask.simulator.tasks[1].call.request_id
    ]


async def test_tasks_are_listed(ask: SimulatorClient, host: FileHost) -> None:
    for model in ("fun-asr", "paraformer-v2", "fun-asr"):
        await ask.submitted(transcription(f"{host.url}/a.wav", model=model), key="sk-one")
    await ask.submitted(filetrans(f"{host.url}/a.wav"), key="sk-two")
    await ask.simulator.tasks_ended()

    async def listed(**wishes: Any) -> dict[str, Any]:
        found: dict[str, Any] = (await ask.get("/api/v1/tasks", params=wishes)).json()
        return found

    whole = await listed()
    assert (whole["total"], whole["total_page"], len(whole["data"])) == (3, 1, 3)
    assert [one["model_name"] for one in whole["data"]] == ["fun-asr", "paraformer-v2", "fun-asr"]
    first = whole["data"][-1]
    task = ask.simulator.tasks[0]
    assert (first["task_id"], first["status"]) == (task.id, "SUCCEEDED")
    assert first["user_api_unique_key"] == "apikey:v1:audio:asr:transcription:fun-asr"
    assert first["gmt_create"] <= first["start_time"] <= first["end_time"]
    page = await listed(page_no=2, page_size=2, region="cn-beijing")
    assert (page["total_page"], page["page_no"], page["page_size"]) == (2, 2, 2)
    assert [one["task_id"] for one in page["data"]] == [task.id]
    assert (await listed(model_name="paraformer-v2"))["total"] == 1
    assert (await listed(status="RUNNING"))["total"] == 0
    assert (await listed(task_id=task.id))["total"] == 1
    now = datetime.now(UTC) + timedelta(hours=8)
    window = {"start_time": f"{now - timedelta(minutes=5):%Y%m%d%H%M%S}"}
    assert (await listed(**window))["total"] == 3
    assert (await listed(end_time=window["start_time"]))["total"] == 0
    window["end_time"] = f"{now + timedelta(hours=24):%Y%m%d%H%M%S}"
    for wrong in (window, {"start_time": "yesterday"}, {"page_no": "0"}, {"page_size": "-1"}):
        assert (await listed(**wrong))["code"] == "InvalidParameter"
    assert (await ask.get("/api/v1/tasks/")).json()["total"] == 3


REJECTED = {
    "a sync model": (filetrans(FAR, model="qwen3-asr-flash"), "InvalidParameter", WRONG_URL),
    "no such model": (transcription(FAR, model="qwen9"), "InvalidParameter", WRONG_URL),
    "no model": ({"input": {}}, "BadRequest.EmptyModel", None),
    "no input": ({"model": "fun-asr"}, "BadRequest.EmptyInput", None),
    "a list for qwen3": (
        transcription(FAR, model="qwen3-asr-flash-filetrans"),
        "InvalidParameter",
        "input must contain file_url",
    ),
    "one for the others": (
        filetrans(FAR, model="fun-asr"),
        "InvalidParameter",
        "input must contain file_urls",
    ),
    "no file": (transcription(), "InvalidParameter", "input must contain file_urls"),
    "101 files": (transcription(*[FAR] * 101), "InvalidParameter", None),
    "a local path": (transcription("file:///a.wav"), "InvalidParameter", None),
    "base64": (filetrans("data:audio/wav;base64,AAAA"), "InvalidParameter", None),
    "an upload unresolved": (
        filetrans("oss://dashscope-instant/a.wav"),
        "InvalidParameter.DataInspection",
        None,
    ),
    "3.x without parameters": (
        {"model": "qwen-audio-3.0-asr-flash-filetrans", "input": {"file_urls": [FAR]}},
        "BadRequest.EmptyParameters",
        None,
    ),
    "one channel, no list": (filetrans(FAR, channel_id=0), "InvalidParameter", None),
    "one speaker": (transcription(FAR, speaker_count=1), "InvalidParameter", None),
    "too much context": (
        filetrans(FAR, corpus={"text": "a " * 10_001}),
        "InvalidParameter",
        "Range of input length should be [1, 10000]",
    ),
}


@pytest.mark.parametrize(("body", "code", "message"), REJECTED.values(), ids=REJECTED)
async def test_bad_submits_are_refused(
    ask: SimulatorClient, body: dict[str, Any], code: str, message: str | None
) -> None:
    answer = await ask.submit(body)
    found = answer.json()
    assert (answer.status_code, found["code"]) == (400, code)
    assert message is None or found["message"] == message
    assert ask.simulator.tasks == []


async def test_a_submission_without_the_async_header_is_rejected(ask: SimulatorClient) -> None:
    answer = await ask.submit(filetrans(FAR), headers={"X-DashScope-Async": "disable"})
    assert (answer.status_code, answer.json()["code"]) == (403, "AccessDenied")
    words = "current user api does not support synchronous calls."
    assert answer.json()["message"] == words


@pytest.mark.parametrize(
    ("model", "region"),
    [("paraformer-v2", "ap-southeast-1"), ("qwen3-asr-flash-filetrans", "us-east-1")],
)
async def test_models_depend_on_the_region(ask: SimulatorClient, model: str, region: str) -> None:
    answer = await ask.submit(transcription(FAR, model=model), region=region)
    assert (answer.status_code, answer.json()["message"]) == (400, WRONG_URL)


async def test_unusual_valid_submissions_are_accepted(ask: SimulatorClient, host: FileHost) -> None:
    odd: dict[str, Any] = {
        "special_word_filter": "{}",
        "enable_lid": True,
        "nonsense": [1],
        "channel_id": [0],
    }
    for body in (
        filetrans(f"{host.url}/a.wav", **odd),
        transcription(f"{host.url}/a.wav", **odd | {"special_word_filter": {}}),
        {**filetrans(f"{host.url}/a.wav"), "resources": [{"resource_id": "p"}]},
        transcription(*[f"{host.url}/a.wav"] * 100),
        filetrans(FAR),
    ):
        assert (await ask.ended(body))["output"]["task_status"] == "SUCCEEDED"
