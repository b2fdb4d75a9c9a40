"""How a job ends, each in one commit: words, money, status and event together, or none of them."""

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
from app.speech.merge import PartText, merge
from app.speech.warning_codes import GAP

_ADD_WORDS = Prepared(sa.insert(transcript))
_DROP_WORDS = Prepared(
    sa.delete(transcript).where(transcript.c.transcription_id == sa.bindparam("job"))
)


def complete(
    tx: sa.Connection,
    job: Job,
    words: Mapping[str, Any],
    *,
    warnings: Sequence[Mapping[str, Any]],
    done_ms: int,
    now: datetime,
    decoded: bool = True,
) -> None:
    """The second commit: keep the words, give back what was held, say `completed`.

    Of a job that was tried anew they replace those of the time before, and the gaps it had.
    `decoded`: `done_ms` is what a decoder made of all of the recording.
    """
    before = [one for one in job.warnings if one["code"] != GAP]
    fenced_update(
        tx,
        job.run,
        now=now,
        events=[Event("completed", {"language": words["language"], "coverage": words["coverage"]})],
        ends=True,
        status="completed",
        completed_at=now,
        done_ms=done_ms,
        source_url=None,  # one that is signed opens the recording for whoever reads it
        warnings=[*before, *(one for one in warnings if one not in before)],
    )
    if job.account.retry_epoch:
        _DROP_WORDS.run(tx, {"job": job.id})
    _ADD_WORDS.run(tx, {"transcription_id": job.id, "created_at": now, **words})
    if decoded:
        _note_length(tx, job, done_ms)
    ledger.release(tx, job.account, now=now)


def fail(tx: sa.Connection, job: Job, error: GatewayError, *, remote: bool, now: datetime) -> None:
    """End a job without words; what calls have cost stays settled, the rest is given back.

    Where it was tried anew, those of the time before are left.
    """
    fenced_update(
        tx,
        job.run,
        now=now,
        events=[Event("failed", {"code": error.code, "detail": error.detail})],
        ends=True,
        status="failed",
        completed_at=now,
        source_url=None,  # one that is signed opens the recording for whoever reads it
        error={"code": error.code, "detail": error.detail, "retryable": error.retryable},
    )
    close_orphaned(tx, job.id, remote=remote, now=now)
    ledger.release(tx, job.account, now=now)


def merged(texts: Sequence[PartText]) -> dict[str, Any]:
    """Merge what was heard into a transcript's row. Seconds of work for hours of words."""
    whole = merge(texts)
    return {
        **whole.model_dump(exclude={"segments"}),
        "segments": [segment.model_dump() for segment in whole.segments],
    }


def _note_length(tx: sa.Connection, job: Job, decoded_ms: int) -> None:
    """Correct the recording's length: a header is a hint, decoding is the truth."""
    if decoded_ms != job.duration_ms:
        of_job = sa.select(transcription.c.audio_id).where(transcription.c.id == job.id)
        tx.execute(
            sa.update(audio_tables.audio)
            .where(audio_tables.audio.c.id == of_job.scalar_subquery())
            .values(duration_ms=decoded_ms)
        )
