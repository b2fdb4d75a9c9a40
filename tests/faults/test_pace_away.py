"""The account's pace is kept in a database: without it no call is made, and no job is lost."""

from pathlib import Path

import pytest

from app.db.rate_limit import rate_limit
from app.jobs.tables import upstream_call
from tests.support.away import Fault, fickle
from tests.support.gateway import running, settings_for, speech
from tests.twin import Limits, Script, Twin

pytestmark = pytest.mark.anyio
LEASE_SECONDS = 1.0


async def ended(url: str, folder: Path, twin: Twin, *faults: Fault):  # noqa: ANN201
    """Run one recording through a gateway before `twin`; return the job, its calls, the pace."""
    settings = settings_for(
        url,
        folder,
        speech={"default_model": "", "catalogue": ""},
        dashscope={"api_key": twin.key, "base_url": f"{twin.url}/api/v1"},
        jobs={"lease_seconds": LEASE_SECONDS},
    )
    with fickle(*faults):
        async with running(settings, None) as gateway:
            sent = await gateway.send(speech(1), wait=0)
            job = await gateway.ended(sent.json()["id"])
            return job, await gateway.rows(upstream_call), await gateway.rows(rate_limit)


async def test_a_job_that_got_no_step_is_handed_back_and_done_later(
    shared_url: str, tmp_path: Path
) -> None:
    fault = Fault("take_step")
    async with Twin(words=Script("hello")) as twin:
        job, made, paces = await ended(shared_url, tmp_path, twin, fault)
    assert fault.met.is_set()
    assert (job["status"], job["text"]) == ("completed", "hello")
    assert ([call["state"] for call in made], len(twin.calls)) == (["answered"], 1)
    assert [row["key"] for row in paces] == ["dashscope/cn-beijing/qwen3-asr-flash"]


async def test_a_429_whose_hold_is_lost_stays_a_call_that_cost_nothing(
    shared_url: str, tmp_path: Path
) -> None:
    fault = Fault("hold_steps")
    # One call a minute, and somebody else had it; the twin's minutes are 2 s long.
    limits = Limits(rpm=1)
    async with Twin(words=Script("hello"), limits=limits, clock_scale=30) as twin:
        twin.service.gate.admit(twin.key, "qwen3-asr-flash", 1)
        job, made, paces = await ended(shared_url, tmp_path, twin, fault)
    assert fault.met.is_set()
    assert job["status"] == "completed"
    assert [(call["state"], call["billed"]) for call in made] == [
        ("failed", "no"),
        ("answered", "yes"),
    ]
    assert [row["block_count"] for row in paces] == [0]
