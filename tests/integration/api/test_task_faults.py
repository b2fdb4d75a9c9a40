"""Every task fault of the simulator, through the whole gateway: paid once, or in doubt.

Covers: app.jobs.filetrans.run
"""

from pathlib import Path

import pytest

from app.jobs.filetrans import run
from app.jobs.tables import upstream_call
from tests.simulator.faults import FAULTS, TASK_FAULTS
from tests.support.gateway import code_of
from tests.support.task_gateway import TaskGateway, task_gateway

pytestmark = pytest.mark.anyio
TIMEOUT_SECONDS = 15.0
DONE = (200, "completed")
DOUBT = (502, "upstream_in_doubt")
LOST = (
    *("reset-before-first-byte", "hang", "html-page", "reset-after-first-byte"),
    *("cut-short", "truncated-json", "answer-lost", "submit-answer-lost"),
)
ENDS = {
    **dict.fromkeys(LOST, DOUBT),
    "arrearage": (503, "engine_account"),
    "bad-key": (503, "engine_account"),
    "data-inspection": (422, "engine_refused"),
    "task-unknown": DOUBT,
    "task-stuck": (504, "engine_timeout"),
}
STREAMED = {"error-in-stream", "duplicate-frames"}


@pytest.mark.parametrize(
    "fault", [name for name in (*FAULTS, *TASK_FAULTS) if name not in STREAMED]
)
async def test_each_task_fault_is_paid_once_or_in_doubt(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "UNKNOWN_TASK_SECONDS", 0.2)
    jobs = {"task_timeout_seconds": 0.5} if fault == "task-stuck" else {}
    async with task_gateway(
        tmp_path, answer_seconds=1.0 if "hang" in fault else TIMEOUT_SECONDS, jobs=jobs
    ) as here:
        here.simulator.faults.next(fault)
        response = await here.send()
        await _check(here, fault, ENDS.get(fault, DONE), response)


async def _check(here: TaskGateway, fault: str, end: tuple[int, str], response) -> None:  # noqa: ANN001
    states = await here.calls()
    lines = await here.lines()
    assert [line for line in lines if line == "release"] == ["release"]
    if end == DONE:
        body = response.json()
        assert (response.status_code, body["status"]) == DONE, body
        assert body["text"] == "1 2 3"
        assert states[-1] == ("answered", "yes")
        assert len(here.simulator.bill) == 1
        await here.assert_settled()
    else:
        assert code_of(response) == end
        assert "settle" not in lines
    if end in {DOUBT, ENDS["task-stuck"]}:
        assert states == [("in_doubt", "maybe")]
        assert len(here.submits) == 1
    assert len(here.simulator.tasks) == {"task-failed": 2}.get(fault, len(here.simulator.tasks[:1]))


async def test_a_task_that_always_fails_is_submitted_three_times_and_free(tmp_path: Path) -> None:
    async with task_gateway(tmp_path) as here:
        here.simulator.faults.next("task-failed", times=3)
        assert code_of(await here.send()) == (502, "engine_failed")
        assert await here.calls() == [("failed", "no")] * 3
        assert await here.lines() == ["hold", "release"]
        assert len(here.simulator.bill) == 0


async def test_a_url_that_the_provider_cannot_read_fails_the_job(tmp_path: Path) -> None:
    async with task_gateway(tmp_path) as here:
        response = await here.link("https://gone.example/a.wav")
        assert code_of(response) == (422, "audio_unreachable")
        assert "FILE_DOWNLOAD_FAILED" in response.json()["detail"]
        assert "Check that the URL can be read without a login" in response.json()["detail"]
        assert (await here.job())["source_url"] is None
        (call,) = await here.gateway.rows(upstream_call)
        assert (call["state"], call["billed"]) == ("failed", "no")
