"""Retry of a job that ended without all of its text: only failed parts are transcribed again.

The job keeps its id, its finished parts and their cost. It begins a new retry epoch, with its own
hold and with attempts counted from zero. A task whose id is known is polled again instead of being
submitted twice. The earlier transcript is kept until the retry has completed, and is shown again if
the retry fails.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.billing import ledger
from app.billing.tables import ledger_line
from app.errors import AudioDeleted, Erased, NothingToRetry, StillRunning
from app.jobs.cancel import own_row
from app.jobs.filetrans import store
from app.jobs.store.events import Event, add_events
from app.jobs.store.job import account_of
from app.jobs.store.job_spec import JobPlan
from app.jobs.store.runs import QueuedJob
from app.jobs.tables import OPEN, audio_tables, part, transcription, upstream_call
from app.speech.options import STREAM

GAP = "gap"  # the state of a part

_part = part.c
_call = upstream_call.c
_line = ledger_line.c
_audio = audio_tables.audio.c
_FIRST_HOLD = sa.select(_line.nano).where(
    _line.transcription_id == sa.bindparam("job"),
    _line.kind == "hold",
    _line.call_id.is_(None),
    _line.retry_epoch == 0,
)
_ANSWERED_COST = sa.select(sa.func.sum(_call.max_cost_nano)).where(
    _call.transcription_id == sa.bindparam("job"), _call.state == "answered"
)


def reopen(tx: sa.Connection, project_id: str, job_id: str, *, now: datetime) -> QueuedJob | None:
    """Queue a failed, cancelled or incomplete job again; None if there is no such job.

    The caller puts the returned job into the queue. Raises Erased, StillRunning, NothingToRetry and
    AudioDeleted.
    """
    row = own_row(tx, project_id, job_id)
    if row is None:
        return None
    _check_retryable(tx, row)
    # A new epoch invalidates the queue entries and runs from before the retry.
    epoch = row.run_epoch + 1
    known = store.resume_in_doubt(tx, row.id, retry_epoch=epoch, epoch=epoch + 1)
    # The first hold less the bounds of answered calls is the most that is left to pay. Where that
    # does not cover a call, the call adds the rest to the hold.
    first, answered = (tx.scalar(one, {"job": row.id}) for one in (_FIRST_HOLD, _ANSWERED_COST))
    held_nano = max(int(first or 0) - int(answered or 0), known, 0)
    length_ms = tx.scalar(sa.select(_audio.duration_ms).where(_audio.id == row.audio_id))
    total_ms = max(length_ms or 0, row.done_ms)
    progress = {"done_seconds": row.done_ms / 1000, "total_seconds": total_ms / 1000}
    events = [*_resets(tx, row), Event("progress", progress)]
    tx.execute(sa.update(part).where(*_gaps_of(row.id)).values(state="pending", error_code=None))
    tx.execute(
        sa.update(transcription)
        .where(transcription.c.id == row.id)
        .values(
            status="queued",
            error=None,
            completed_at=None,
            run_epoch=epoch,
            retry_epoch=epoch,
            runs_without_progress=0,
            deferred_since=None,
            event_count=row.event_count + len(events),
        )
    )
    ledger.hold(tx, replace(account_of(row), retry_epoch=epoch), held_nano, now=now)
    add_events(tx, row.id, events, first=row.event_count + 1, now=now)
    return QueuedJob(row.id, epoch, row.priority, JobPlan.from_json(row.plan).kind)


def recording_of(tx: sa.Connection, project_id: str, job_id: str) -> str | None:
    """Return the blob key of a job's audio; None where the audio is no longer stored."""
    query = (
        sa.select(_audio.blob_key)
        .join(transcription, transcription.c.audio_id == _audio.id)
        .where(
            transcription.c.id == job_id,
            transcription.c.project_id == project_id,
            _audio.erased_at.is_(None),
        )
    )
    return tx.scalar(query)


def _check_retryable(tx: sa.Connection, row: Any) -> None:
    if row.erased_at is not None:
        raise Erased
    if row.status in OPEN:
        raise StillRunning(
            f"The transcription is still running: it is `{row.status}`. Only one that has ended "
            "can be retried.",
            transcription_status=row.status,
        )
    if row.status == "completed" and _first_gap(tx, row.id) is None:
        raise NothingToRetry
    if recording_of(tx, row.project_id, row.id) is None:
        raise AudioDeleted


def _gaps_of(job_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return _part.transcription_id == job_id, _part.state == GAP


def _first_gap(tx: sa.Connection, job_id: str) -> int | None:
    index: int | None = tx.scalar(sa.select(sa.func.min(_part.idx)).where(*_gaps_of(job_id)))
    return index


def _resets(tx: sa.Connection, row: Any) -> list[Event]:
    """Return the `reset` that revokes live text without a segment, and segments of gaps.

    All segments from the first revoked one on are published again.
    """
    gap = _first_gap(tx, row.id)
    if gap is None:
        return [Event("reset", {})] if row.mode == STREAM else []
    spoken = (_part.transcription_id == row.id, _part.idx < gap, _part.state == "done")
    index = tx.scalar(sa.select(sa.func.count()).select_from(part).where(*spoken)) or 0
    return [Event("reset", {"from": index})]
