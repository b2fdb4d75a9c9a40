"""Calls that are tasks upstream: known by their id once it came, and open until they have ended.

A task whose id is stored belongs to the job, not to the run that submitted it: whoever takes the
job up asks how it is, in a later life of the job as well. It is never submitted again.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.billing import ledger
from app.billing.ledger import Used
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

UNDER_WAY = ("open", "in_doubt")
_call = upstream_call.c
_audio = audio_tables.audio.c
_JOB = sa.bindparam("job", type_=sa.String)
_KNOWN = (
    sa.select(
        _call.id,
        _call.engine,
        _call.state,
        _call.task_id,
        _call.request_id,
        _call.opened_at,
        _call.run_epoch,
    )
    .where(_call.transcription_id == _JOB, _call.state.in_(UNDER_WAY))
    .order_by(_call.id)
)
_NAME = (
    sa.update(upstream_call)
    .where(_call.id == sa.bindparam("call"), _call.task_id.is_(None))
    .values(task_id=sa.bindparam("task"), request_id=sa.bindparam("request"))
)
_FREE = (
    sa.update(upstream_call)
    .where(_call.id == sa.bindparam("call"), _call.state.in_(UNDER_WAY))
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
# One that the upstream does not know, or whose bill has come, will bring no words any more.
_LEFT = (
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
_TAKE_BACK = (
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
_RECORDING = (
    sa.select(_audio.id, _audio.sha256, _audio.blob_key, _audio.bytes, _audio.format)
    .join(transcription, transcription.c.audio_id == _audio.id)
    .where(transcription.c.id == _JOB, _audio.erased_at.is_(None))
)


@dataclass(frozen=True, slots=True)
class KnownTask:
    """A task that was submitted, and when: `opened_at` is just before that.

    `awaited_since` is when the present life of the job began to wait for it.
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
        """Whether the job has been tried anew since it was submitted."""
        return self.awaited_since > self.opened_at


@dataclass(frozen=True, slots=True)
class StoredAudio:
    """The recording of a job as it is stored."""

    audio_id: str
    sha256: str
    blob_key: str
    bytes: int
    format: str


def find_open_task(tx: sa.Connection, job: Job) -> KnownTask | None:
    """Return the job's task, if it has one under way.

    Raises UpstreamInDoubt where one may have been submitted of which nobody knows the id. Who
    tries a job anew knows that of its earlier lives.
    """
    rows = tx.execute(_KNOWN, {"job": job.id}).all()
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
    """Put the newest task that was left in doubt before this life back under way.

    It counts as begun by the run `epoch`, so that its bound is reserved in this life and no longer
    in an earlier one. Returns its bound, 0 where there is none: it ended, it was billed already
    (`reconcile`), or another call is under way. An id that comes later than the retry of its job
    is found by the next run.
    """
    row = tx.execute(_LEFT, {"job": job_id, "retry_epoch": retry_epoch}).one_or_none()
    if row is None:
        return 0
    tx.execute(_TAKE_BACK, {"call": row.id, "epoch": epoch})
    return int(row.max_cost_nano)


def find_active(tx: sa.Connection, job_id: str, upto: int | None = None) -> Sequence[KnownTask]:
    """Return the tasks of a job that may still be worked on, whatever has become of the job.

    `upto` leaves out those of later runs than that epoch.
    """
    tasks = [_task(row) for row in tx.execute(_KNOWN, {"job": job_id}) if row.task_id is not None]
    return [task for task in tasks if upto is None or task.run_epoch <= upto]


def store_task_id(tx: sa.Connection, call_id: str, taken: SubmittedTask) -> None:
    """Store what a submit answered. It is a fact, whoever holds the job by now."""
    tx.execute(_NAME, {"call": call_id, "task": taken.task_id, "request": taken.request_id})


def note_submitted(tx: sa.Connection, job: Job, *, now: datetime) -> None:
    """Tell that a task is under way; of a recording whose length is known, how long it is."""
    events = []
    if job.duration_ms is not None:
        said = {"done_seconds": 0.0, "total_seconds": job.duration_ms / 1000}
        events.append(Event("progress", said))
    fenced_update(tx, job.run, now=now, events=events, runs_without_progress=0)


def note_cancelled(tx: sa.Connection, call_id: str, *, now: datetime) -> None:
    """Close the call of a task that was called off before anybody began with it: it is free."""
    closed = sa.func.coalesce(_call.closed_at, sa.literal(now, _call.closed_at.type))
    tx.execute(_FREE.values(closed_at=closed), {"call": call_id})


def recording(tx: sa.Connection, job_id: str) -> StoredAudio:
    """Return the job's recording. Raises RecordingMissing."""
    row = tx.execute(_RECORDING, {"job": job_id}).one_or_none()
    if row is None:
        raise AudioStorageError
    return StoredAudio(row.id, row.sha256, row.blob_key, row.bytes, row.format)


def span_of(job: Job, source: str, longest_ms: int) -> PartSpan:
    """Return the one part that a task is; of an unknown length it is the longest there may be.

    `source` is the hash of the bytes that were received, else the address that is passed on.
    """
    known_hash = source if job.source_url is None else hashlib.sha256(source.encode()).hexdigest()
    length_ms = longest_ms if job.duration_ms is None else job.duration_ms
    return PartSpan(0, 0, length_ms, length_ms, known_hash)


def finish(
    tx: sa.Connection,
    job: Job,
    answered: Answered,
    words: dict[str, Any],
    warnings: Sequence[dict[str, Any]],
    *,
    now: datetime,
) -> None:
    """The last commit: what was heard, what it cost, and the end of the job."""
    if calls.is_answered(tx, answered.call_id):
        return  # an earlier try was committed after all
    done_ms = answered.span.end_ms
    said = {"done_seconds": done_ms / 1000, "total_seconds": done_ms / 1000}
    segment = {"index": 0, "start": 0.0, "end": done_ms / 1000}
    segment |= {name: words[name] for name in ("text", "language", "emotion")}
    spoken = [Event("segment", segment)] if words["text"] else []
    fenced_update(tx, job.run, now=now, events=[Event("progress", said), *spoken], done_ms=done_ms)
    calls.close_answered(tx, job, answered, keep_raw=job.options.keeps_raw, now=now)
    tx.execute(
        sa.update(part)
        .where(part.c.transcription_id == job.id, part.c.idx == 0)
        .values(end_ms=done_ms, speech_ms=done_ms)
    )
    completion = Completion(words, warnings, done_ms)
    outcome.complete(tx, job, completion, now=now, decoded=False)


def settle_without_result(
    tx: sa.Connection, job: Job, call_id: str, used: Used, raw: Any, *, now: datetime
) -> None:
    """Close a call without words that the upstream charges all the same. Raises StaleRun."""
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
