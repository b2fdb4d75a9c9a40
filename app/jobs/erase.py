"""Deleting a transcription: its text and its audio are erased; ids, times and costs are kept."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from app.jobs.cancel import HasLiveText, end_cancelled, own_row
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


@dataclass(frozen=True, slots=True)
class PendingPurge:
    """An erased audio whose bytes may still be stored."""

    audio_id: str
    blob_key: str


def erase(
    tx: sa.Connection,
    project_id: str,
    job_id: str,
    *,
    local_engines: Collection[str],
    has_live_text: HasLiveText,
    now: datetime,
) -> list[PendingPurge] | None:
    """Erase a job's content and return the audio to purge; None if there is no such job.

    A job that is still open is cancelled first; see `cancel` for its cost.
    """
    row = own_row(tx, project_id, job_id)
    if row is None:
        return None
    if row.erased_at is not None:
        return []
    if row.status in OPEN:
        remote = row.engine not in local_engines
        end_cancelled(tx, row, remote=remote, has_live_text=has_live_text, now=now)
    for table in (transcript, event):
        tx.execute(sa.delete(table).where(table.c.transcription_id == job_id))
    tx.execute(
        sa.update(part)
        .where(part.c.transcription_id == job_id)
        .values(
            pcm_sha256=None,
            partial_result=sa.null(),
            result=sa.case((part.c.state == "done", sa.literal({}, part.c.result.type))),
        )
    )
    tx.execute(
        sa.update(upstream_call)
        .where(upstream_call.c.transcription_id == job_id)
        .values(answer=None)
    )
    tx.execute(
        sa.update(transcription)
        .where(transcription.c.id == job_id)
        .values(
            erased_at=now,
            options={},
            reference=None,
            client_metadata=None,
            source_url=None,
            # The details name what the client has sent.
            warnings=[{"code": one["code"], "detail": ""} for one in row.warnings],
        )
    )
    if row.audio_id is None:
        return []
    stored = sa.select(_audio.c.blob_key).where(_audio.c.id == row.audio_id).with_for_update()
    blob_key = tx.scalar(stored)
    users = sa.select(transcription.c.id).where(
        transcription.c.audio_id == row.audio_id, transcription.c.erased_at.is_(None)
    )
    if blob_key is None or tx.scalar(users.limit(1)) is not None:
        return []  # another transcription still has the audio
    tx.execute(sa.update(_audio).where(_audio.c.id == row.audio_id).values(erased_at=now))
    return [PendingPurge(row.audio_id, blob_key)]


def pending_purges(tx: sa.Connection) -> list[PendingPurge]:
    """Return the erased audio whose bytes may still be stored."""
    rows = tx.execute(
        sa.select(_audio.c.id, _audio.c.blob_key)
        .where(_audio.c.erased_at.is_not(None), _audio.c.purged_at.is_(None))
        .limit(UNPURGED_AT_ONCE)
    )
    return [PendingPurge(*row) for row in rows]


def orphans(tx: sa.Connection, blob_keys: Sequence[str]) -> list[str]:
    """Return those keys that belong to no stored audio."""
    known = sa.select(_audio.c.blob_key).where(_audio.c.blob_key.in_(blob_keys))
    return sorted(set(blob_keys) - set(tx.scalars(known)))


def mark_purged(tx: sa.Connection, audio_id: str, *, now: datetime) -> None:
    """Remember that an erased audio's bytes are gone, and forget their hash."""
    tx.execute(
        sa.update(_audio)
        .where(_audio.c.id == audio_id)
        .values(purged_at=now, sha256="", blob_key=f"purged/{audio_id}")
    )
