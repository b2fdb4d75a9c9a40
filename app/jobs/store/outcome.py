"""The end of a job in one commit: transcript, ledger entries, status and event, or none of them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.billing import ledger
from app.db.prepared import Prepared
from app.errors import GatewayError
from app.jobs.store.calls import close_orphaned
from app.jobs.store.events import Event
from app.jobs.store.job import Job
from app.jobs.store.runs import fenced_update
from app.jobs.tables import audio_tables, transcript, transcription
from app.kit.records import dataclass
from app.speech.merge import PartText, merge_parts
from app.speech.warning_codes import WarningCode

_ADD_WORDS = Prepared(sa.insert(transcript))
_DROP_WORDS = Prepared(
    sa.delete(transcript).where(transcript.c.transcription_id == sa.bindparam("job"))
)


_CORRECT_LENGTH = Prepared(
    sa.update(audio_tables.audio)
    .where(
        audio_tables.audio.c.id
        == sa.select(transcription.c.audio_id)
        .where(transcription.c.id == sa.bindparam("job"))
        .scalar_subquery()
    )
    .values(duration_ms=sa.bindparam("decoded_ms"))
)


@dataclass(frozen=True, slots=True)
class Completion:
    """The values that the end of a completed job stores: transcript row, warnings, length in ms."""

    transcript: Mapping[str, Any]
    warnings: Sequence[Mapping[str, Any]]
    done_ms: int

    def all_warnings(self, job: Job) -> list[Mapping[str, Any]]:
        """Return the job's warnings and these; gaps from before a retry no longer count."""
        before = [one for one in job.warnings if one["code"] != WarningCode.GAP]
        return [*before, *(one for one in self.warnings if one not in before)]


def complete(
    tx: sa.Connection,
    job: Job,
    completion: Completion,
    *,
    events: Sequence[Event] = (),
    now: datetime,
    decoded: bool = True,
) -> None:
    """Complete a job: status, events, transcript, and the release of the rest of its hold.

    All calls of the job must be settled before. Raises StaleRun.
    """
    mark_completed(tx, job, completion, events=events, now=now)
    store_transcript(tx, job, completion, now=now, decoded=decoded)


def mark_completed(
    tx: sa.Connection,
    job: Job,
    completion: Completion,
    *,
    events: Sequence[Event],
    now: datetime,
    **changes: Any,
) -> None:
    """Set the job's status, and append the events and `completed`. Raises StaleRun."""
    words = completion.transcript
    ended = Event("completed", {"language": words["language"], "coverage": words["coverage"]})
    fenced_update(
        tx,
        job.run,
        now=now,
        events=[*events, ended],
        ends=True,
        status="completed",
        completed_at=now,
        done_ms=completion.done_ms,
        source_url=None,  # a signed URL gives access to the audio to anyone who can read it
        warnings=completion.all_warnings(job),
        **changes,
    )


def store_transcript(
    tx: sa.Connection, job: Job, completion: Completion, *, now: datetime, decoded: bool = True
) -> None:
    """Store the transcript of a completed job and release the rest of its hold.

    It replaces the transcript of the time before a retry. `decoded`: the completion's length is
    that of the decoded audio, which corrects the length in the header.
    """
    if job.account.retry_epoch:
        _DROP_WORDS.run(tx, {"job": job.id})
    _ADD_WORDS.add(tx, {"transcription_id": job.id, "created_at": now, **completion.transcript})
    if decoded and completion.done_ms != job.duration_ms:
        _CORRECT_LENGTH.run(tx, {"job": job.id, "decoded_ms": completion.done_ms})
    ledger.release_hold(tx, job.account, now=now)


def fail(tx: sa.Connection, job: Job, error: GatewayError, *, remote: bool, now: datetime) -> None:
    """End a job without a result; the cost of its calls stays settled, the rest is released.

    In a retry the transcript from before it is kept.
    """
    fenced_update(
        tx,
        job.run,
        now=now,
        events=[Event("failed", {"code": error.code, "detail": error.detail})],
        ends=True,
        status="failed",
        completed_at=now,
        source_url=None,  # a signed URL gives access to the audio to anyone who can read it
        error={"code": error.code, "detail": error.detail, "retryable": error.retryable},
    )
    close_orphaned(tx, job.id, remote=remote, now=now)
    ledger.release_hold(tx, job.account, now=now)


def merged(texts: Sequence[PartText]) -> dict[str, Any]:
    """Merge the parts into a transcript's row. Takes seconds for hours of speech."""
    return merge_parts(texts).model_dump()
