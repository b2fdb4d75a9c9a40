"""Faults of tasks, polls, results and uploads: each has its effect and the correct charge."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.simulator import TASK_FAULTS, Delays, ProviderSimulator, Script, counting
from tests.simulator.answers import Pace
from tests.simulator.client import SimulatorClient, filetrans, qwen3, transcription
from tests.simulator.server import POLICY, TASKS

FAR = "https://far.example/a.wav"
NEAR = "https://near.example/a.wav"
BODY = filetrans(FAR)
OF_TASKS = {
    "submit-answer-lost",
    *("task-failed", "task-partly-failed", "task-unknown", "task-stuck"),
}
OF_POLLS = {
    "poll-429": (429, "Throttling.RateQuota"),
    "poll-500": (500, "InternalError"),
    "poll-503": (503, "ModelUnavailable"),
}
OF_RESULTS = {"result-403": (403, "AccessDenied"), "result-500": (500, "InternalError")}
OF_UPLOADS = {
    "policy-429": (429, "Throttling.RateQuota"),
    "policy-500": (500, "InternalError"),
    "upload-refused": (403, "AccessDenied"),
    "upload-500": (500, "InternalError"),
}
BROKEN = {
    "poll-reset": httpx.ReadError,
    "poll-hang": httpx.ReadTimeout,
    "result-reset": httpx.ReadError,
    "result-hang": httpx.ReadTimeout,
    "result-cut-short": httpx.RemoteProtocolError,
    "upload-reset": httpx.ReadError,
    "upload-hang": httpx.ReadTimeout,
    "upload-answer-lost": httpx.RemoteProtocolError,
}
NO_JSON = {"poll-truncated-json", "poll-html-page", "result-truncated-json", "result-html-page"}
SLOW = {"poll-slow", "result-slow", "result-drip"}

pytestmark = pytest.mark.anyio


@pytest.fixture
async def simulator() -> AsyncIterator[ProviderSimulator]:
    remote = dict.fromkeys([FAR, NEAR], counting.encode([1]))
    async with ProviderSimulator(
        delays=Delays(0, 0),
        words=Script("a"),
        remote=remote,
        slow_seconds=0.5,
        pace=Pace(drip_seconds=0.03),
    ) as simulator:
        yield simulator


@pytest.fixture
async def ask(simulator: ProviderSimulator) -> AsyncIterator[SimulatorClient]:
    async with httpx.AsyncClient(timeout=1) as client:
        yield SimulatorClient(simulator, client)


def test_every_fault_is_tried_here() -> None:
    tried = OF_TASKS | OF_POLLS.keys() | OF_RESULTS.keys() | OF_UPLOADS.keys() | BROKEN.keys()
    assert tried | NO_JSON | SLOW == TASK_FAULTS.keys()


async def step(ask: SimulatorClient, name: str) -> httpx.Response:
    """Make the request to which a fault of this name applies."""
    kind = name.partition("-")[0]
    found = await ask.policy("fun-asr")
    output = (await ask.ended(BODY))["output"]
    if name in TASK_FAULTS:
        ask.simulator.faults.next(name)
    if kind == "policy":
        return await ask.get(POLICY, params={"action": "getPolicy", "model": "fun-asr"})
    if kind == "upload":
        return await ask.upload(found, b"a")
    if kind == "poll":
        return await ask.get(f"{TASKS}/{output['task_id']}")
    return await ask.client.get(output["result"]["transcription_url"])


@pytest.mark.parametrize("name", [*OF_POLLS, *OF_RESULTS, *OF_UPLOADS])
async def test_a_rejection_has_the_format_of_its_endpoint(ask: SimulatorClient, name: str) -> None:
    status, code = {**OF_POLLS, **OF_RESULTS, **OF_UPLOADS}[name]
    answer = await step(ask, name)
    assert answer.status_code == status
    if name.startswith(("result", "upload")):
        assert f"<Code>{code}</Code>" in answer.text
    else:
        assert answer.json()["code"] == code
    assert ask.simulator.calls[-1].fault == name
    assert (await step(ask, "result")).status_code == 200


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_connection_breaks_as_named(ask: SimulatorClient, name: str) -> None:
    with pytest.raises(BROKEN[name]):
        await step(ask, name)
    assert (await step(ask, "result")).status_code == 200


@pytest.mark.parametrize("name", sorted(NO_JSON))
async def test_invalid_json_is_complete_http(ask: SimulatorClient, name: str) -> None:
    answer = await step(ask, name)
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()


@pytest.mark.parametrize("name", sorted(SLOW))
async def test_slow_answers_arrive_all_the_same(ask: SimulatorClient, name: str) -> None:
    answer = await step(ask, name)
    assert answer.json()
    assert answer.elapsed.total_seconds() >= 0.45


async def test_an_upload_with_a_lost_answer_is_stored(ask: SimulatorClient) -> None:
    found = await ask.policy("fun-asr")
    ask.simulator.faults.next("upload-answer-lost")
    with pytest.raises(httpx.RemoteProtocolError):
        await ask.upload(found, b"a")
    answer = await ask.upload(found, b"a")
    assert (answer.status_code, "FileAlreadyExists" in answer.text) == (409, True)


@pytest.mark.parametrize("name", ["submit-answer-lost", "answer-lost"])
async def test_a_submission_with_a_lost_answer_is_a_charged_task(
    ask: SimulatorClient, name: str
) -> None:
    ask.simulator.faults.next(name)
    with pytest.raises(httpx.RemoteProtocolError):
        await ask.submit(BODY)
    await ask.simulator.tasks_ended()
    (task,) = ask.simulator.tasks
    assert task.status == "SUCCEEDED"
    (line,) = ask.simulator.bill
    assert (line.request_id, line.lost) == (task.call.request_id, True)


@pytest.mark.parametrize("name", ["500", "429", "html-page", "reset-before-first-byte"])
async def test_a_submission_that_was_not_received_creates_no_task(
    ask: SimulatorClient, name: str
) -> None:
    ask.simulator.faults.next(name)
    try:
        await ask.submit(BODY)
    except httpx.ReadError:
        assert name.startswith("reset")
    assert ask.simulator.tasks == []
    ask.simulator.faults.next(None, "submit-answer-lost")
    assert (await ask.submit(BODY)).status_code == 200


async def test_a_failed_task_is_free(ask: SimulatorClient) -> None:
    for body in (BODY, transcription(FAR, NEAR)):
        ask.simulator.faults.next("task-failed")
        output = (await ask.ended(body))["output"]
        assert (output["task_status"], output["code"]) == ("FAILED", "InternalError.Algo")
    assert [one["subtask_status"] for one in output["results"]] == ["FAILED", "FAILED"]
    assert len(ask.simulator.bill) == 0


async def test_a_task_fails_in_part(ask: SimulatorClient) -> None:
    ask.simulator.faults.next("task-partly-failed")
    ended = await ask.ended(transcription(FAR, NEAR))
    good, bad = ended["output"]["results"]
    assert ended["output"]["task_status"] == "SUCCEEDED"
    assert ended["output"]["task_metrics"] == {"TOTAL": 2, "SUCCEEDED": 1, "FAILED": 1}
    assert good["subtask_status"] == "SUCCEEDED"
    assert (bad["subtask_status"], bad["code"]) == ("FAILED", "InvalidFile.DownloadFailed")
    assert ended["usage"] == {"duration": 1}
    assert [line.seconds for line in ask.simulator.bill] == [1]
    ask.simulator.faults.next("task-partly-failed")
    assert (await ask.ended(transcription(FAR)))["output"]["task_metrics"]["FAILED"] == 0
    assert [call.fault for call in ask.simulator.calls if call.task_id and call.fault] == [
        "task-partly-failed"
    ]


async def test_a_task_is_forgotten_but_not_by_the_bill(ask: SimulatorClient) -> None:
    ask.simulator.faults.next("task-unknown")
    ended = await ask.ended(BODY)
    assert ended["output"]["task_status"] == "UNKNOWN"
    assert (await ask.get(TASKS)).json()["total"] == 0
    assert len(ask.simulator.bill) == 1


async def test_a_stuck_task_fails_at_the_providers_timeout(ask: SimulatorClient) -> None:
    ask.simulator.faults.next("task-stuck")
    task_id = await ask.submitted(BODY)
    while ask.simulator.tasks[0].status == "PENDING":
        await asyncio.sleep(0)
    ask.simulator.clock.advance(3 * 3600 - 60)
    assert (await ask.task(task_id))["output"]["task_status"] == "RUNNING"
    ask.simulator.clock.advance(120)
    await asyncio.wait_for(ask.simulator.tasks_ended(), 5)
    output = (await ask.task(task_id))["output"]
    assert (output["task_status"], output["code"]) == ("FAILED", "InternalError.Timeout")
    assert len(ask.simulator.bill) == 0


async def test_random_faults_apply_to_their_kind_of_request() -> None:
    simulator = ProviderSimulator(seed=3, faults={"500": 0.2, "poll-429": 0.5, "poll-reset": 0.1})
    calls = [fault.name if (fault := simulator.faults.draw()) else None for _ in range(500)]
    polls = [
        fault.name if (fault := simulator.faults.draw("", "poll")) else None for _ in range(500)
    ]
    assert {*calls} == {None, "500"}
    assert {*polls} == {None, "poll-429", "poll-reset"}
    assert 200 < polls.count("poll-429") < 300
    assert simulator.faults.draw("", "result") is None


async def test_faults_of_several_kinds_have_no_order(ask: SimulatorClient) -> None:
    with pytest.raises(ValueError, match="several kinds"):
        ask.simulator.faults.next("poll-429", "result-403")


async def test_results_are_available_while_their_region_is_down(
    ask: SimulatorClient,
) -> None:
    ended = await ask.ended(BODY)
    ask.simulator.faults.down("cn-beijing", "500")
    polled = await ask.get(f"{TASKS}/{ended['output']['task_id']}")
    assert polled.status_code == (await ask.submit(BODY)).status_code == 500
    policy = await ask.get(POLICY, params={"action": "getPolicy", "model": "fun-asr"})
    assert policy.status_code == (await ask.native(qwen3(FAR))).status_code == 500
    url = ended["output"]["result"]["transcription_url"]
    assert (await ask.client.get(url)).status_code == 200
    await ask.simulator.shut("cn-beijing")
    assert (await ask.client.get(url)).status_code == 200
