"""A stored job without a worker and without an entry in the queue."""

import asyncio
from dataclasses import replace

from app.jobs.store.recordings import NewAudio
from app.jobs.store.runs import QueuedJob
from tests.support.gateway import Gateway
from tests.support.scenario import PLAN, Scenario, job_spec


async def queued(
    gateway: Gateway, sound: bytes, *, part_seconds: int = 120, lease_seconds: float | None = None
) -> Scenario:
    """Store audio and create a job for it. The gateway starts it at its next maintenance."""
    services = gateway.services
    async with asyncio.timeout(20):  # until the first round of maintenance is over
        while not services.maintenance._orphans_due:
            await asyncio.sleep(0.01)
    upload = await services.store.begin(len(sound))
    await upload.write(sound)
    blob = await upload.finish(services.default_project)
    kind = "direct" if part_seconds == 120 else "split"
    plan = replace(PLAN, kind=kind, part_seconds=part_seconds)
    found = NewAudio(
        sha256=blob.sha256,
        bytes=blob.bytes,
        blob_key=blob.key.removeprefix(f"{services.default_project}/"),
        format="wav",
        codec="pcm_s16le",
        channels=1,
        sample_rate=16_000,
        duration_ms=None,
    )
    return await Scenario.create(
        services.db, audio=found, wanted=job_spec(20_000, plan=plan), lease_seconds=lease_seconds
    )


async def hand_out(gateway: Gateway, scenario: Scenario) -> bool:
    """Requeue a job as maintenance does. Return whether it was neither queued nor running."""
    row = await scenario.row()
    stalled = QueuedJob(scenario.id, row["run_epoch"], row["priority"], row["plan"]["kind"])
    return await gateway.services.worker.requeue([stalled]) == [scenario.id]
