"""Runs: the claim of one worker on a job, and the fence that rejects writes of all others.

A claim raises the job's `run_epoch` and sets a lease by the database's clock. Every write of a run
names its epoch, so a process that was suspended for a minute and resumed writes nothing: its epoch
is no longer current.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from app.db.prepared import Prepared
from app.db.schema import Utc, database_now
from app.jobs.store.events import Event, add_events, delta
from app.jobs.store.job import Job, Run, load_job
from app.jobs.store.live_text import UnstoredText
from app.jobs.tables import IS_OPEN, PLAN_KIND, audio_tables, transcription
from app.speech.engine import ErrorKind

BEYOND_A_LEASE = timedelta(milliseconds=50)  # so that it has expired when it is read again
MAX_RUNS_WITHOUT_PROGRESS = 20  # runs in a row that finished no part before a job is given up


RetryClock = Literal["runs", "paused", "reset"]
DeferReason = Literal[
    "not_admitted",
    "call_failed",
    "fetch_slot",
    "submit_slot",
    "upload_failed",
    "task_pending",
    "task_failed",
    "task_cancelled",
    "poll_failed",
    "no_result",
    "engine_disabled",
    "out_of_resources",
]
"""Reasons of `job.deferred` in the log; docs/log-events.md explains them."""


class StaleRun(Exception):
    """This run no longer holds its job: the job was cancelled, deleted, or claimed by another."""


class Deferred(Exception):
    """The job cannot continue for `seconds`; no call of it is in flight in this process.

    `clock` is the effect on the job's retry timeout: it runs on, it is paused because other jobs
    come first, or it is reset because the job waits for a task that the provider works on.
    `reason` is logged, with the `kind` of the engine error that caused the deferral.
    """

    def __init__(
        self,
        seconds: float,
        reason: DeferReason,
        clock: RetryClock = "runs",
        *,
        kind: ErrorKind | None = None,
    ) -> None:
        super().__init__(f"deferred for {seconds:.1f} s: {reason}")
        self.seconds = seconds
        self.reason = reason
        self.clock = clock
        self.kind = kind


class QueuedJob(NamedTuple):
    """A job for the queue; `epoch` is that of its latest run, which has ended, or 0."""

    job_id: str
    epoch: int
    priority: int
    plan_kind: str


_row = transcription.c
_audio = audio_tables.audio.c
_LEASE = sa.bindparam("lease", type_=sa.Float)
_IS_FREE = sa.and_(
    IS_OPEN,
    sa.or_(_row.lease_until.is_(None), _row.lease_until < database_now()),
)
# Statements are built once: building them each time took three quarters of a job's time.
_CLAIM = Prepared(
    sa.update(transcription)
    .where(_row.id == sa.bindparam("job"), _IS_FREE)
    .values(
        status="processing",
        run_epoch=_row.run_epoch + 1,
        runs_without_progress=_row.runs_without_progress + 1,
        lease_until=database_now(_LEASE),
        started_at=sa.func.coalesce(_row.started_at, sa.bindparam("now", type_=Utc())),
    )
    .returning(_row.run_epoch)
)
_OWN_RUN = sa.update(transcription).where(
    _row.id == sa.bindparam("job"),
    _row.run_epoch == sa.bindparam("epoch"),
    _row.status == "processing",
)
# One more where live text is unstored and no event was added since (see fenced_update).
_MORE_EVENTS = (
    _row.event_count
    + sa.bindparam("more", type_=sa.Integer)
    + sa.case((_row.event_count == sa.bindparam("text_after", type_=sa.Integer), 1), else_=0)
)
_UPDATE_RUNNING = Prepared(
    _OWN_RUN.values(lease_until=database_now(_LEASE), event_count=_MORE_EVENTS).returning(
        _row.event_count
    )
)
_UPDATE_ENDED = Prepared(
    _OWN_RUN.values(lease_until=None, event_count=_MORE_EVENTS).returning(_row.event_count)
)
_RENEW = Prepared(_OWN_RUN.values(lease_until=database_now(_LEASE)))
_RELEASE = Prepared(
    _OWN_RUN.values(
        lease_until=None, runs_without_progress=_row.runs_without_progress - sa.bindparam("less")
    )
)
_RELEASE_UNTIL = _OWN_RUN.values(
    lease_until=database_now(_LEASE), runs_without_progress=_row.runs_without_progress - 1
)
_DEFERRED_SINCE = sa.func.coalesce(_row.deferred_since, sa.bindparam("now", type_=Utc()))
_DEFER: Mapping[RetryClock, Prepared] = {
    "runs": Prepared(_RELEASE_UNTIL.values(deferred_since=_DEFERRED_SINCE)),
    "paused": Prepared(_RELEASE_UNTIL),
    # The run ended in good order, so earlier runs without progress no longer count.
    "reset": Prepared(_RELEASE_UNTIL.values(deferred_since=None, runs_without_progress=0)),
}
_LEASE_LEFT = Prepared(
    sa.select(_row.lease_until, database_now()).where(_row.id == sa.bindparam("job"), IS_OPEN)
)


def claim(tx: sa.Connection, job_id: str, *, lease_seconds: float, now: datetime) -> Job | None:
    """Begin a run of this job; None where it has ended or another worker holds it."""
    epoch = _CLAIM.scalar(tx, {"job": job_id, "lease": lease_seconds, "now": now})
    if epoch is None:
        return None
    return load_job(tx, Run(job_id, epoch, lease_seconds))


def fenced_update(
    tx: sa.Connection,
    run: Run,
    *,
    now: datetime,
    events: Sequence[Event] = (),
    ends: bool = False,
    **changes: Any,
) -> None:
    """Change the job's row and append events to its log, if this run still holds the job.

    Every write of a run begins with this. It renews the lease, or gives it up where the run
    `ends`. Live text that is not stored yet becomes an event in front of the others, unless an
    earlier attempt at the same write has stored it. A streamed job's run must hold its text back
    meanwhile (see write_of_run). Raises StaleRun, which undoes the whole transaction.
    """
    unstored = run.live_text.unstored if events else UnstoredText()
    terms = {
        "job": run.job_id,
        "epoch": run.epoch,
        "more": len(events),
        "text_after": unstored.after if unstored.text else -1,
        **changes,
    }
    if not ends:
        terms["lease"] = run.lease_seconds
    count = (_UPDATE_ENDED if ends else _UPDATE_RUNNING).scalar(tx, terms)
    if count is None:
        raise StaleRun(run.job_id)
    if events:
        first = count - len(events) + 1
        # Such an earlier attempt has added at least two events: the text and another one.
        if unstored.text and first == unstored.after + 2:
            events, first = [delta(unstored.text), *events], first - 1
        add_events(tx, run.job_id, events, first=first, now=now)
        run.live_text.note_stored(first, events)


def add_reset(tx: sa.Connection, job: Job, *, now: datetime) -> None:
    """Add a `reset` event, which revokes live text without a segment. Raises StaleRun."""
    fenced_update(tx, job.run, now=now, events=[Event("reset", {})])


def renew(tx: sa.Connection, run: Run) -> None:
    """Extend the lease from now. Raises StaleRun."""
    terms = {"job": run.job_id, "epoch": run.epoch, "lease": run.lease_seconds}
    if _RENEW.run(tx, terms) == 0:
        raise StaleRun(run.job_id)


def release_run(tx: sa.Connection, run: Run, *, was_idle: bool = False) -> None:
    """End a run without a result, so that any worker may claim the job at once.

    `was_idle` counts it among the runs without progress.
    """
    terms = {"job": run.job_id, "epoch": run.epoch, "less": 0 if was_idle else 1}
    _RELEASE.run(tx, terms)


def defer_run(
    tx: sa.Connection, run: Run, seconds: float, *, now: datetime, clock: RetryClock = "runs"
) -> None:
    """End a run that cannot go on now: no worker claims the job for so many `seconds`."""
    terms: dict[str, Any] = {"job": run.job_id, "epoch": run.epoch, "lease": seconds}
    _DEFER[clock].run(tx, terms | ({"now": now} if clock == "runs" else {}))


def clear_leases(tx: sa.Connection) -> int:
    """Free every open job. Only allowed where this process is the database's only one."""
    held = sa.and_(IS_OPEN, _row.lease_until.is_not(None))
    return tx.execute(sa.update(transcription).where(held).values(lease_until=None)).rowcount


def find_stalled(tx: sa.Connection, *, after: str, limit: int) -> list[QueuedJob]:
    """Return open jobs without a worker, from the oldest one after this id."""
    query = (
        sa.select(_row.id, _row.run_epoch, _row.priority, PLAN_KIND)
        .where(_IS_FREE, _row.id > after)
        .order_by(_row.id)
        .limit(limit)
    )
    return [QueuedJob(*row) for row in tx.execute(query)]


def lease_left(tx: sa.Connection, job_id: str) -> timedelta | None:
    """Return how long an open job cannot be claimed; None where it has ended."""
    row = _LEASE_LEFT.first(tx, {"job": job_id})
    if row is None:
        return None
    until, now = row
    left: timedelta = (until or now) - now
    return max(timedelta(0), left) + BEYOND_A_LEASE
