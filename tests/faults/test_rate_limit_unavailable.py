"""The rate limit is stored in a database. Without the database no call is made and no job is lost.

Covers: app.db.rate_limit
"""

from pathlib import Path

import pytest

from app.db.rate_limit import rate_limit
from app.jobs.tables import upstream_call
from tests.simulator import Limits, ProviderSimulator, Script
from tests.support.gateway import running, settings_for, speech
from tests.support.unreliable_database import DatabaseFault, unreliable_database

pytestmark = pytest.mark.anyio
LEASE_SECONDS = 1.0


async def ended(url: str, folder: Path, simulator: ProviderSimulator, *faults: DatabaseFault):  # noqa: ANN201
    """Run one job through a gateway with `simulator`; return the job, its calls, the rate limit."""
    settings = settings_for(
        url,
        folder,
        speech={"default_model": "", "catalogue": ""},
        dashscope={"api_key": simulator.key, "base_url": f"{simulator.url}/api/v1"},
        jobs={"lease_seconds": LEASE_SECONDS},
    )
    with unreliable_database(*faults):
        async with running(settings, None) as gateway:
            sent = await gateway.send(speech(1), wait=0)
            job = await gateway.ended(sent.json()["id"])
            return job, await gateway.rows(upstream_call), await gateway.rows(rate_limit)


async def test_a_job_without_a_slot_is_deferred_and_completed_later(
    shared_url: str, tmp_path: Path
) -> None:
    fault = DatabaseFault("reserve_slot")
    async with ProviderSimulator(words=Script("hello")) as simulator:
        job, made, paces = await ended(shared_url, tmp_path, simulator, fault)
    assert fault.met.is_set()
    assert (job["status"], job["text"]) == ("completed", "hello")
    assert ([call["state"] for call in made], len(simulator.calls)) == (["answered"], 1)
    assert [row["key"] for row in paces] == ["dashscope/cn-beijing/qwen3-asr-flash"]


async def test_a_429_that_cannot_be_recorded_stays_a_free_call(
    shared_url: str, tmp_path: Path
) -> None:
    fault = DatabaseFault("block_slots")
    # One call a minute, which another user has made; the simulator's minutes are 2 s long.
    limits = Limits(rpm=1)
    async with ProviderSimulator(words=Script("hello"), limits=limits, clock_scale=30) as simulator:
        simulator.service.gate.admit(simulator.key, "qwen3-asr-flash", 1)
        job, made, paces = await ended(shared_url, tmp_path, simulator, fault)
    assert fault.met.is_set()
    assert job["status"] == "completed"
    assert [(call["state"], call["billed"]) for call in made] == [
        ("failed", "no"),
        ("answered", "yes"),
    ]
    assert [row["block_count"] for row in paces] == [0]
