"""Runs: who works on a job right now, and why nobody else's writes count.

Taking up a job raises its `run_epoch` and sets a lease by the database's clock. Every write of
a run names its epoch, so a process that was stopped for a minute and woken up writes nothing:
its epoch has passed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.billing.ledger import Account
from app.billing.prices import Tariff
from app.db.schema import database_now
from app.jobs.tables import OPEN, audio_tables, event, part, transcription

MOST_IDLE_RUNS = 20  # runs in a row that finished no part before a job is given up


class StaleRun(Exception):
    """This run no longer holds its job: it was cancelled, deleted, or taken up by another."""


@dataclass(frozen=True, slots=True)
class Run:
    """One worker's hold on a job."""

    job_id: str
    epoch: int
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class KnownPart:
    """A part as it was stored by this run or an earlier one."""

    index: int
    start_ms: int
    end_ms: int
    speech_ms: int
    state: str
    result: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as a run finds it when it begins."""

    run: Run
    account: Account
    tariff: Tariff
    engine: str
    blob_key: str
    audio_format: str
    duration_ms: int | None
    options: Mapping[str, Any]
    plan: Mapping[str, Any]
    warnings: Sequence[Mapping[str, Any]]
    parts: Sequence[KnownPart]
    idle_runs: int

    @property
    def id(self) -> str:
        return self.run.job_id


Event = tuple[str, Mapping[str, Any]]


def take_up(tx: sa.Connection, job_id: str, *, lease_seconds: float, now: datetime) -> Job | None:
    """Begin a run of this job; None where it has ended or another worker holds it."""
    row = transcription.c
    epoch = tx.scalar(
        sa.update(transcription)
        .where(
            row.id == job_id,
            row.status.in_(OPEN),
            sa.or_(row.lease_until.is_(None), row.lease_until < database_now()),
        )
        .values(
            status="processing",
            run_epoch=row.run_epoch + 1,
            idle_runs=row.idle_runs + 1,
            lease_until=database_now(lease_seconds),
            started_at=sa.func.coalesce(
                row.started_at, sa.bindparam("now", now, row.started_at.type)
            ),
        )
        .returning(row.run_epoch)
    )
    if epoch is None:
        return None
    return load_job(tx, Run(job_id, epoch, lease_seconds))


def load_job(tx: sa.Connection, run: Run) -> Job:
    """Return the job as this run finds it."""
    audio = audio_tables.audio
    row = tx.execute(
        sa.select(transcription, audio.c.blob_key, audio.c.format, audio.c.duration_ms)
        .join(audio, audio.c.id == transcription.c.audio_id)
        .where(transcription.c.id == run.job_id)
    ).one()
    tariff = Tariff.from_json(row.tariff)
    return Job(
        run=run,
        account=Account(row.project_id, row.key_id, row.id, row.model, tariff.currency),
        tariff=tariff,
        engine=row.engine,
        blob_key=row.blob_key,
        audio_format=row.format,
        duration_ms=row.duration_ms,
        options=row.options,
        plan=row.plan,
        warnings=row.warnings,
        parts=load_parts(tx, run.job_id),
        idle_runs=row.idle_runs,
    )


def load_parts(tx: sa.Connection, job_id: str) -> list[KnownPart]:
    """Return the parts stored so far, in their order."""
    columns = (part.c.idx, part.c.start_ms, part.c.end_ms, part.c.speech_ms)
    rows = tx.execute(
        sa.select(*columns, part.c.state, part.c.result)
        .where(part.c.transcription_id == job_id)
        .order_by(part.c.idx)
    )
    return [KnownPart(*row) for row in rows]


def write_as(
    tx: sa.Connection, run: Run, *, now: datetime, events: Sequence[Event] = (), **changes: Any
) -> None:
    """Change the job's row and say what happened, if this run still holds it; renews the lease.

    Every write of a run begins with this. Raises StaleRun, which undoes the whole work.
    """
    row = transcription.c
    count = tx.scalar(
        sa.update(transcription)
        .where(row.id == run.job_id, row.run_epoch == run.epoch, row.status == "processing")
        .values(
            {
                "lease_until": database_now(run.lease_seconds),
                "event_count": row.event_count + len(events),
                **changes,
            }
        )
        .returning(row.event_count)
    )
    if count is None:
        raise StaleRun(run.job_id)
    add_events(tx, run.job_id, events, first=count - len(events) + 1, now=now)


def renew(tx: sa.Connection, run: Run) -> None:
    """Push the end of the lease away from now. Raises StaleRun."""
    row = transcription.c
    renewed = tx.execute(
        sa.update(transcription)
        .where(row.id == run.job_id, row.run_epoch == run.epoch, row.status == "processing")
        .values(lease_until=database_now(run.lease_seconds))
    )
    if renewed.rowcount == 0:
        raise StaleRun(run.job_id)


def add_events(
    tx: sa.Connection, job_id: str, events: Sequence[Event], *, first: int, now: datetime
) -> None:
    """Append events, numbered from `first`, to what a client can read of the job."""
    if events:
        rows = [
            {"transcription_id": job_id, "seq": seq, "type": name, "data": data, "created_at": now}
            for seq, (name, data) in enumerate(events, first)
        ]
        tx.execute(sa.insert(event), rows)


def hand_back(tx: sa.Connection, run: Run, *, was_idle: bool = False) -> None:
    """End a run without a result, so that anybody may take the job up at once.

    `was_idle` counts it among the runs that brought the job no further.
    """
    row = transcription.c
    tx.execute(
        sa.update(transcription)
        .where(row.id == run.job_id, row.run_epoch == run.epoch, row.status == "processing")
        .values(lease_until=None, idle_runs=row.idle_runs - (0 if was_idle else 1))
    )


def clear_leases(tx: sa.Connection) -> int:
    """Free every open job: only where this process is the database's only one."""
    row = transcription.c
    freed = tx.execute(
        sa.update(transcription)
        .where(row.status.in_(OPEN), row.lease_until.is_not(None))
        .values(lease_until=None)
    )
    return freed.rowcount


def forsaken(tx: sa.Connection, *, limit: int) -> list[str]:
    """Return open jobs that nobody works on, the most urgent and oldest first."""
    row = transcription.c
    query = (
        sa.select(row.id)
        .where(
            row.status.in_(OPEN),
            sa.or_(row.lease_until.is_(None), row.lease_until < database_now()),
        )
        .order_by(row.priority.desc(), row.id)
        .limit(limit)
    )
    return list(tx.scalars(query))
