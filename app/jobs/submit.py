"""The first commit: a recording and a wish become a durable job. From here on a 2xx is true."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.access.principal import Principal
from app.billing.ledger import Account, hold
from app.billing.prices import tariff_of
from app.db.schema import database_now
from app.jobs.runs import Job, Run, add_events, load_job
from app.jobs.tables import audio_tables, transcription
from app.kit.ids import new_id


@dataclass(frozen=True, slots=True)
class Recording:
    """What intake brought: a stored blob and what the probe found. `duration_ms` None: unknown."""

    sha256: str
    bytes: int
    blob_key: str
    format: str
    codec: str
    channels: int
    sample_rate: int
    duration_ms: int | None


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller asked for, already judged: all of it can be honoured or is warned of."""

    model: str
    engine: str
    region: str
    mode: str
    options: Mapping[str, Any]
    plan: Mapping[str, Any]
    bound_ms: int
    warnings: Sequence[Mapping[str, Any]] = ()
    reference: str | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job, and the blob that holds its audio: another one if these bytes were known already."""

    job_id: str
    blob_key: str
    claimed: Job | None


def submit(
    tx: sa.Connection,
    principal: Principal,
    recording: Recording,
    wish: Wish,
    *,
    now: datetime,
    lease_seconds: float | None = None,
) -> Submitted:
    """Make the job durable, its upper bound held. Raises PriceUnknown.

    With `lease_seconds` the caller takes the job up in the same commit.
    """
    tariff = tariff_of(tx, model=wish.model, region=wish.region, now=now)
    audio_id, blob_key = _keep_audio(tx, principal.project_id, recording, now)
    job_id = new_id("tr")
    claim = (
        {"status": "queued"}
        if lease_seconds is None
        else {
            "status": "processing",
            "run_epoch": 1,
            "idle_runs": 1,
            "started_at": now,
            "lease_until": database_now(lease_seconds),
        }
    )
    tx.execute(
        sa.insert(transcription).values(
            id=job_id,
            project_id=principal.project_id,
            key_id=principal.key_id,
            audio_id=audio_id,
            mode=wish.mode,
            model=wish.model,
            engine=wish.engine,
            options=dict(wish.options),
            plan=dict(wish.plan),
            tariff=tariff.as_json(),
            warnings=list(wish.warnings),
            reference=wish.reference,
            client_metadata=wish.metadata,
            event_count=1,
            created_at=now,
            **claim,
        )
    )
    account = Account(principal.project_id, principal.key_id, job_id, wish.model, tariff.currency)
    hold(tx, account, tariff.cost(wish.bound_ms), now=now)
    add_events(tx, job_id, [("created", {"model": wish.model})], first=1, now=now)
    if lease_seconds is None:
        return Submitted(job_id, blob_key, None)
    return Submitted(job_id, blob_key, load_job(tx, Run(job_id, 1, lease_seconds)))


def _keep_audio(
    tx: sa.Connection, project_id: str, recording: Recording, now: datetime
) -> tuple[str, str]:
    """Return the project's audio of these bytes, stored anew only if it has none."""
    audio = audio_tables.audio
    kept = tx.execute(
        sa.select(audio.c.id, audio.c.blob_key)
        .where(
            audio.c.project_id == project_id,
            audio.c.sha256 == recording.sha256,
            audio.c.erased_at.is_(None),
        )
        .with_for_update()  # an erasure of it waits, then sees the job that uses it
    ).one_or_none()
    if kept is not None:
        return kept.id, kept.blob_key
    audio_id = new_id("aud")
    tx.execute(
        sa.insert(audio).values(
            id=audio_id,
            project_id=project_id,
            sha256=recording.sha256,
            bytes=recording.bytes,
            blob_key=recording.blob_key,
            format=recording.format,
            codec=recording.codec,
            channels=recording.channels,
            sample_rate=recording.sample_rate,
            duration_ms=recording.duration_ms,
            created_at=now,
        )
    )
    return audio_id, recording.blob_key
