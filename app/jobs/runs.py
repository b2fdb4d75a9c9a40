"""Runs: who works on a job right now, and why nobody else's writes count.

Taking up a job raises its `run_epoch` and sets a lease by the database's clock. Every write of
a run names its epoch, so a process that was stopped for a minute and woken up writes nothing:
its epoch has passed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal

import sqlalchemy as sa

from app.billing.ledger import Account
from app.db.schema import Utc, database_now
from app.jobs.routes import Route, routes_of
from app.jobs.tables import OPEN, audio_tables, event, part, transcription

MOST_IDLE_RUNS = 20  # runs in a row that finished no part before a job is given up


Patience = Literal["runs", "stands still", "anew"]


class StaleRun(Exception):
    """This run no longer holds its job: it was cancelled, deleted, or taken up by another."""


class PutOff(Exception):
    """The job can go no further for so many seconds; no call of it is under way here.

    `patience` says what it means for how long the job goes on trying.
    """

    patience: ClassVar[Patience] = "runs"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"put off for {seconds:.1f} s")
        self.seconds = seconds


class Waiting(PutOff):
    """A task of the job's is under way upstream and will be asked for again."""

    patience = "anew"


class Queued(PutOff):
    """Others have to be done before; nobody is to blame."""

    patience = "stands still"


@dataclass(frozen=True, slots=True)
class Run:
    """One worker's hold on a job."""

    job_id: str
    epoch: int
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class KnownPart:
    """A part as it was stored by this run or an earlier one."""

    COLUMNS: ClassVar = ("idx", "start_ms", "end_ms", "speech_ms", "state", "result")

    index: int
    start_ms: int
    end_ms: int
    speech_ms: int
    state: str
    result: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as a run finds it when it begins.

    `source_url`: the recording is not here yet, and `blob_key` and `audio_format` are empty.
    """

    run: Run
    account: Account
    routes: Sequence[Route]
    waiting_since: datetime | None
    blob_key: str
    source_url: str | None = field(repr=False)
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

    @property
    def engine(self) -> str:
        """The engine it is meant to run on; see `routes` for where else it may."""
        return self.routes[0].engine


Event = tuple[str, Mapping[str, Any]]


_row = transcription.c
_audio = audio_tables.audio.c
_LEASE = sa.bindparam("lease", type_=sa.Float)
_IS_FREE = sa.and_(
    _row.status.in_(OPEN),
    sa.or_(_row.lease_until.is_(None), _row.lease_until < database_now()),
)
# Statements are built once: building them anew took three quarters of a job's time.
_TAKE_UP = (
    sa.update(transcription)
    .where(_row.id == sa.bindparam("job"), _IS_FREE)
    .values(
        status="processing",
        run_epoch=_row.run_epoch + 1,
        idle_runs=_row.idle_runs + 1,
        lease_until=database_now(_LEASE),
        started_at=sa.func.coalesce(_row.started_at, sa.bindparam("now", type_=Utc())),
    )
    .returning(_row.run_epoch)
)
_OF_RUN = sa.update(transcription).where(
    _row.id == sa.bindparam("job"),
    _row.run_epoch == sa.bindparam("epoch"),
    _row.status == "processing",
)
_MORE_EVENTS = _row.event_count + sa.bindparam("more", type_=sa.Integer)
_GO_ON = _OF_RUN.values(lease_until=database_now(_LEASE), event_count=_MORE_EVENTS).returning(
    _row.event_count
)
_END = _OF_RUN.values(lease_until=None, event_count=_MORE_EVENTS).returning(_row.event_count)
_RENEW = _OF_RUN.values(lease_until=database_now(_LEASE))
_HAND_BACK = _OF_RUN.values(lease_until=None, idle_runs=_row.idle_runs - sa.bindparam("less"))
_STOPPED = _OF_RUN.values(lease_until=database_now(_LEASE), idle_runs=_row.idle_runs - 1)
_SINCE = sa.func.coalesce(_row.waiting_since, sa.bindparam("now", type_=Utc()))
_PUT_OFF: Mapping[Patience, sa.Update] = {
    "runs": _STOPPED.values(waiting_since=_SINCE),
    "stands still": _STOPPED,
    "anew": _STOPPED.values(waiting_since=None),
}
_ADD_EVENTS = sa.insert(event)
_LOAD = (
    sa.select(transcription, _audio.blob_key, _audio.format, _audio.duration_ms)
    .outerjoin(audio_tables.audio, _audio.id == _row.audio_id)
    .where(_row.id == sa.bindparam("job"))
)
_LOAD_PARTS = (
    sa.select(*(part.c[name] for name in KnownPart.COLUMNS))
    .where(part.c.transcription_id == sa.bindparam("job"))
    .order_by(part.c.idx)
)


def take_up(tx: sa.Connection, job_id: str, *, lease_seconds: float, now: datetime) -> Job | None:
    """Begin a run of this job; None where it has ended or another worker holds it."""
    epoch = tx.scalar(_TAKE_UP, {"job": job_id, "lease": lease_seconds, "now": now})
    if epoch is None:
        return None
    return load_job(tx, Run(job_id, epoch, lease_seconds))


def load_job(tx: sa.Connection, run: Run) -> Job:
    """Return the job as this run finds it."""
    row = tx.execute(_LOAD, {"job": run.job_id}).one()
    routes = routes_of(row)
    return Job(
        run=run,
        account=Account(row.project_id, row.key_id, row.id, row.model, routes[0].tariff.currency),
        routes=routes,
        waiting_since=row.waiting_since,
        blob_key=row.blob_key or "",
        source_url=row.source_url,
        audio_format=row.format or "",
        duration_ms=row.duration_ms,
        options=row.options,
        plan=row.plan,
        warnings=row.warnings,
        parts=[KnownPart(*found) for found in tx.execute(_LOAD_PARTS, {"job": run.job_id})],
        idle_runs=row.idle_runs,
    )


def write_as(
    tx: sa.Connection,
    run: Run,
    *,
    now: datetime,
    events: Sequence[Event] = (),
    ends: bool = False,
    **changes: Any,
) -> None:
    """Change the job's row and say what happened, if this run still holds it.

    Every write of a run begins with this; it renews the lease, or gives it up where the run
    `ends`. Raises StaleRun, which undoes the whole work.
    """
    terms = {"job": run.job_id, "epoch": run.epoch, "more": len(events), **changes}
    if not ends:
        terms["lease"] = run.lease_seconds
    count = tx.scalar(_END if ends else _GO_ON, terms)
    if count is None:
        raise StaleRun(run.job_id)
    add_events(tx, run.job_id, events, first=count - len(events) + 1, now=now)


def renew(tx: sa.Connection, run: Run) -> None:
    """Push the end of the lease away from now. Raises StaleRun."""
    terms = {"job": run.job_id, "epoch": run.epoch, "lease": run.lease_seconds}
    if tx.execute(_RENEW, terms).rowcount == 0:
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
        tx.execute(_ADD_EVENTS, rows)


def hand_back(tx: sa.Connection, run: Run, *, was_idle: bool = False) -> None:
    """End a run without a result, so that anybody may take the job up at once.

    `was_idle` counts it among the runs that brought the job no further.
    """
    terms = {"job": run.job_id, "epoch": run.epoch, "less": 0 if was_idle else 1}
    tx.execute(_HAND_BACK, terms)


def put_off(
    tx: sa.Connection, run: Run, seconds: float, *, now: datetime, patience: Patience = "runs"
) -> None:
    """End a run that can go no further for now: nobody takes the job up before these seconds."""
    terms: dict[str, Any] = {"job": run.job_id, "epoch": run.epoch, "lease": seconds}
    tx.execute(_PUT_OFF[patience], terms | ({"now": now} if patience == "runs" else {}))


def clear_leases(tx: sa.Connection) -> int:
    """Free every open job: only where this process is the database's only one."""
    held = sa.and_(_row.status.in_(OPEN), _row.lease_until.is_not(None))
    return tx.execute(sa.update(transcription).where(held).values(lease_until=None)).rowcount


def forsaken(tx: sa.Connection, *, limit: int) -> list[str]:
    """Return open jobs that nobody works on, the most urgent and oldest first."""
    query = sa.select(_row.id).where(_IS_FREE).order_by(_row.priority.desc(), _row.id).limit(limit)
    return list(tx.scalars(query))
