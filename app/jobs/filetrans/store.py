"""Upstream calls that are tasks: open from the submit until the task has ended.

A task whose id is stored belongs to the job and not to the run that submitted it. Any later run
polls it, also after a retry of the job; it is never submitted again.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.billing import ledger
from app.billing.ledger import BilledUsage
from app.billing.tables import ledger_line
from app.errors import AudioStorageError, UpstreamInDoubt
from app.jobs.store import calls, outcome
from app.jobs.store.calls import Answered
from app.jobs.store.events import Event
from app.jobs.store.job import Job
from app.jobs.store.outcome import Completion
from app.jobs.store.parts import PartSpan
from app.jobs.store.runs import fenced_update
from app.jobs.tables import audio_tables, part, transcription, upstream_call
from app.speech.engine import Billed, ErrorKind
from app.speech.task_engine import SubmittedTask

ACTIVE = ("open", "in_doubt")
_call = upstream_call.c
_audio = audio_tables.audio.c
_JOB = sa.bindparam("job", type_=sa.String)
_ACTIVE_CALLS = (
    sa.select(
        _call.id,
        _call.engine,
        _call.state,
        _call.task_id,
        _call.request_id,
        _call.opened_at,
        _call.run_epoch,
    )
    .where(_call.transcription_id == _JOB, _call.state.in_(ACTIVE))
    .order_by(_call.id)
)
_STORE_TASK_ID = (
    sa.update(upstream_call)
    .where(_call.id == sa.bindparam("call"), _call.task_id.is_(None))
    .values(task_id=sa.bindparam("task"), request_id=sa.bindparam("request"))
)
_CLOSE_CANCELLED = (
    sa.update(upstream_call)
    .where(_call.id == sa.bindparam("call"), _call.state.in_(ACTIVE))
    .values(state="failed", billed=Billed.NO, error_kind="cancelled")
)
_IS_ADJUSTED = (
    sa.select(ledger_line.c.id)
    .where(ledger_line.c.call_id == _call.id, ledger_line.c.kind == "adjust")
    .exists()
)
_another = upstream_call.alias("another")
_HAS_ANOTHER = (
    sa.select(_another.c.id)
    .where(_another.c.transcription_id == _JOB, _another.c.state == "open")
    .exists()
)
# A task that the provider does not know, or whose bill has come, can bring no result any more.
_NEWEST_IN_DOUBT = (
    sa.select(_call.id, _call.max_cost_nano)
    .where(
        _call.transcription_id == _JOB,
        _call.state == "in_doubt",
        _call.task_id.is_not(None),
        _call.run_epoch <= sa.bindparam("retry_epoch", type_=sa.Integer),
        sa.func.coalesce(_call.error_kind, "") != ErrorKind.MALFORMED,
        ~_IS_ADJUSTED,
        ~_HAS_ANOTHER,
    )
    .order_by(_call.id.desc())
    .limit(1)
)
_REOPEN = (
    sa.update(upstream_call)
    .where(_call.id == sa.bindparam("call"))
    .values(
        state="open",
        closed_at=sa.null(),
        billed=sa.null(),
        error_kind=sa.null(),
        run_epoch=sa.bindparam("epoch"),
    )
)
_AUDIO = (
    sa.select(_audio.id, _audio.sha256, _audio.blob_key, _audio.bytes, _audio.format)
    .join(transcription, transcription.c.audio_id == _audio.id)
    .where(transcription.c.id == _JOB, _audio.erased_at.is_(None))
)


@dataclass(frozen=True, slots=True)
class KnownTask:
    """A submitted task. `opened_at` is just before the submit.

    `awaited_since` is when the job, or its last retry, began to wait for the task.
    """

    call_id: str
    engine: str
    task_id: str
    request_id: str | None
    opened_at: datetime
    awaited_since: datetime
    run_epoch: int

    @property
    def is_before_retry(self) -> bool:
        """Whether the task was submitted before the job's last retry."""
        return self.awaited_since > self.opened_at


@dataclass(frozen=True, slots=True)
class StoredAudio:
    """The stored audio of a job."""

    audio_id: str
    sha256: str
    blob_key: str
    bytes: int
    format: str


def find_open_task(tx: sa.Connection, job: Job) -> KnownTask | None:
    """Return the job's open task, or None.

    Raises UpstreamInDoubt where a task may have been submitted since the last retry whose id was
    lost. Tasks from before a retry are left out: the client accepted that risk with the retry.
    """
    rows = tx.execute(_ACTIVE_CALLS, {"job": job.id}).all()
    for row in rows:
        if row.state == "open" and row.task_id is not None:
            task = _task(row)
            if job.account.retry_epoch == 0:
                return task
            began = ledger.began_at(tx, job.account)
            return replace(task, awaited_since=max(began, task.opened_at))
    if any(row.state == "in_doubt" and row.run_epoch > job.account.retry_epoch for row in rows):
        raise UpstreamInDoubt
    return None


def resume_in_doubt(tx: sa.Connection, job_id: str, *, retry_epoch: int, epoch: int) -> int:
    """Reopen the newest in-doubt task from before the retry; return its largest cost in nano.

    The call then belongs to the run `epoch`, so that its cost is reserved from the hold of the
    retry. Returns 0 where no task can be resumed: it has ended, `reconcile` has found its bill, or
    another call is open. A task id that is stored after the retry is found by the next run.
    """
    row = tx.execute(_NEWEST_IN_DOUBT, {"job": job_id, "retry_epoch": retry_epoch}).one_or_none()
    if row is None:
        return 0
    tx.execute(_REOPEN, {"call": row.id, "epoch": epoch})
    return int(row.max_cost_nano)


def find_active(tx: sa.Connection, job_id: str, upto: int | None = None) -> Sequence[KnownTask]:
    """Return a job's tasks that may still run at the provider, in any state of the job.

    Tasks of runs later than the epoch `upto` are left out.
    """
    tasks = [
        _task(row) for row in tx.execute(_ACTIVE_CALLS, {"job": job_id}) if row.task_id is not None
    ]
    return [task for task in tasks if upto is None or task.run_epoch <= upto]


def store_task_id(tx: sa.Connection, call_id: str, task: SubmittedTask) -> None:
    """Store the id of a submitted task; not fenced, as any later run of the job needs it."""
    tx.execute(_STORE_TASK_ID, {"call": call_id, "task": task.task_id, "request": task.request_id})


def note_submitted(tx: sa.Connection, job: Job, *, now: datetime) -> None:
    """Count the submit as progress of the job, with an event where the audio's length is known."""
    events = []
    if job.duration_ms is not None:
        progress = {"done_seconds": 0.0, "total_seconds": job.duration_ms / 1000}
        events.append(Event("progress", progress))
    fenced_update(tx, job.run, now=now, events=events, runs_without_progress=0)


def close_cancelled(tx: sa.Connection, call_id: str, *, now: datetime) -> None:
    """Close the call of a task that was cancelled before it began, which is free of charge."""
    closed = sa.func.coalesce(_call.closed_at, sa.literal(now, _call.closed_at.type))
    tx.execute(_CLOSE_CANCELLED.values(closed_at=closed), {"call": call_id})


def find_task_audio(tx: sa.Connection, job_id: str) -> StoredAudio:
    """Return the job's audio. Raises AudioStorageError where it is not stored."""
    row = tx.execute(_AUDIO, {"job": job_id}).one_or_none()
    if row is None:
        raise AudioStorageError
    return StoredAudio(row.id, row.sha256, row.blob_key, row.bytes, row.format)


def span_of(job: Job, source: str, longest_ms: int) -> PartSpan:
    """Return the span of a task, which is all of the audio; an unknown length is the longest.

    `source` is the SHA-256 of the received bytes, or the client's URL where it is passed on.
    """
    digest = source if job.source_url is None else hashlib.sha256(source.encode()).hexdigest()
    length_ms = longest_ms if job.duration_ms is None else job.duration_ms
    return PartSpan(0, 0, length_ms, length_ms, digest)


def complete_task(
    tx: sa.Connection,
    job: Job,
    answered: Answered,
    transcript: dict[str, Any],
    warnings: Sequence[dict[str, Any]],
    *,
    now: datetime,
) -> None:
    """Store the transcript, settle the call and complete the job."""
    if calls.is_answered(tx, answered.call_id):
        return  # an earlier attempt of this write was committed
    done_ms = answered.span.end_ms
    progress = {"done_seconds": done_ms / 1000, "total_seconds": done_ms / 1000}
    segment = {"index": 0, "start": 0.0, "end": done_ms / 1000}
    segment |= {name: transcript[name] for name in ("text", "language", "emotion")}
    events = [Event("progress", progress)]
    if transcript["text"]:
        events.append(Event("segment", segment))
    fenced_update(tx, job.run, now=now, events=events, done_ms=done_ms)
    calls.close_answered(tx, job, answered, keep_raw=job.options.keeps_raw, now=now)
    tx.execute(
        sa.update(part)
        .where(part.c.transcription_id == job.id, part.c.idx == 0)
        .values(end_ms=done_ms, speech_ms=done_ms)
    )
    completion = Completion(transcript, warnings, done_ms)
    outcome.complete(tx, job, completion, now=now, decoded=False)


def settle_without_result(
    tx: sa.Connection, job: Job, call_id: str, used: BilledUsage, raw: Any, *, now: datetime
) -> None:
    """Close and settle a call that is billed although it brought no text. Raises StaleRun."""
    fenced_update(tx, job.run, now=now)
    closed = tx.execute(
        sa.update(upstream_call)
        .where(_call.id == call_id, _call.state == "open")
        .values(
            state="failed",
            billed=Billed.YES,
            error_kind=ErrorKind.MALFORMED,
            usage=raw,
            closed_at=now,
        )
    )
    if closed.rowcount:
        ledger.settle(tx, job.account, call_id, used, now=now)


def _task(row: Any) -> KnownTask:
    opened = row.opened_at
    facts = (row.id, row.engine, row.task_id, row.request_id)
    return KnownTask(*facts, opened, awaited_since=opened, run_epoch=row.run_epoch)
