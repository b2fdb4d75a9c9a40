"""A job that is stored and waits for anybody to take it up."""

from dataclasses import replace

from app.jobs.store.recordings import NewAudio
from app.jobs.store.runs import StalledJob
from tests.support.gateway import Gateway
from tests.support.scenario import PLAN, Scenario, job_spec


async def queued(
    gateway: Gateway, sound: bytes, *, part_seconds: int = 120, lease_seconds: float | None = None
) -> Scenario:
    """Store a recording and submit a job for it, which this gateway does not begin by itself."""
    services = gateway.services
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
    """Put a job into the queue as upkeep does; tell whether it was not in it, nor runs here."""
    row = await scenario.row()
    forsaken = StalledJob(scenario.id, row["run_epoch"], row["priority"], row["plan"]["kind"])
    return await gateway.services.worker.requeue([forsaken]) == 1
