"""Deleting a transcription: its words and its audio go, ids, times and costs stay."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from app.billing import ledger
from app.billing.ledger import Account
from app.jobs.tables import (
    OPEN,
    audio_tables,
    event,
    part,
    transcript,
    transcription,
    upstream_call,
)

_audio = audio_tables.audio
UNPURGED_AT_ONCE = 1_000


def erase(tx: sa.Connection, project_id: str, job_id: str, *, now: datetime) -> bool:
    """Erase a job's content; one still open is cancelled first. False if there is no such job."""
    row = tx.execute(
        sa.select(transcription)
        .where(transcription.c.id == job_id, transcription.c.project_id == project_id)
        .with_for_update()
    ).one_or_none()
    if row is None or row.erased_at is not None:
        return row is not None
    if row.status in OPEN:
        _cancel(tx, row, now)
    _forget_words(tx, job_id, now)
    _forget_audio(tx, row.audio_id, now)
    return True


def unpurged(tx: sa.Connection) -> Sequence[tuple[str, str]]:
    """Return (audio id, blob key) of erased audio whose bytes may still be stored."""
    rows = tx.execute(
        sa.select(_audio.c.id, _audio.c.blob_key)
        .where(_audio.c.erased_at.is_not(None), _audio.c.purged_at.is_(None))
        .limit(UNPURGED_AT_ONCE)
    )
    return [(row.id, row.blob_key) for row in rows]


def mark_purged(tx: sa.Connection, audio_id: str, *, now: datetime) -> None:
    """Remember that an erased audio's bytes are gone from the store."""
    tx.execute(sa.update(_audio).where(_audio.c.id == audio_id).values(purged_at=now))


def _cancel(tx: sa.Connection, row: "sa.Row[tuple[object, ...]]", now: datetime) -> None:
    """End an open job without a result. Its run, if any, finds out at its next write."""
    tx.execute(
        sa.update(transcription)
        .where(transcription.c.id == row.id)
        .values(status="cancelled", completed_at=now, lease_until=None)
    )
    # Somebody may be waiting for these right now, and no longer has the right to say what came.
    tx.execute(
        sa.update(upstream_call)
        .where(upstream_call.c.transcription_id == row.id, upstream_call.c.state == "open")
        .values(state="in_doubt", billed="maybe", closed_at=now)
    )
    account = Account(row.project_id, row.key_id, row.id, row.model, row.tariff["currency"])
    ledger.release(tx, account, now=now)


def _forget_words(tx: sa.Connection, job_id: str, now: datetime) -> None:
    tx.execute(sa.delete(transcript).where(transcript.c.transcription_id == job_id))
    tx.execute(sa.delete(event).where(event.c.transcription_id == job_id))
    tx.execute(
        sa.update(part)
        .where(part.c.transcription_id == job_id, part.c.state == "done")
        .values(result={}, pcm_sha256=None)
    )
    tx.execute(
        sa.update(upstream_call)
        .where(upstream_call.c.transcription_id == job_id)
        .values(answer=None)
    )
    tx.execute(
        sa.update(transcription)
        .where(transcription.c.id == job_id)
        .values(erased_at=now, options={}, reference=None, client_metadata=None)
    )


def _forget_audio(tx: sa.Connection, audio_id: str, now: datetime) -> None:
    """Mark the audio erased unless another transcription still has it."""
    tx.execute(sa.select(_audio.c.id).where(_audio.c.id == audio_id).with_for_update())
    users = sa.select(transcription.c.id).where(
        transcription.c.audio_id == audio_id, transcription.c.erased_at.is_(None)
    )
    if tx.scalar(users.limit(1)) is None:
        tx.execute(sa.update(_audio).where(_audio.c.id == audio_id).values(erased_at=now))
