"""Rows of audio, one for each distinct audio of a project."""

from datetime import datetime
from math import ceil

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from app.audio.probe import Probe
from app.audio.storage.blob_store import StoredBlob
from app.db.prepared import Prepared
from app.jobs.tables import audio_tables
from app.kit.ids import new_id
from app.kit.records import dataclass

_audio = audio_tables.audio.c
_FIND_AUDIO = Prepared(
    sa.select(_audio.id, _audio.blob_key)
    .where(
        _audio.project_id == sa.bindparam("project"),
        _audio.sha256 == sa.bindparam("sha256"),
        _audio.format == sa.bindparam("format"),
        _audio.sample_rate == sa.bindparam("sample_rate"),
        _audio.erased_at.is_(None),
    )
    .with_for_update()  # an erasure of the audio waits, and then sees the job that uses it
)
# Both databases have this clause; the index is `uq_audio_kept_content`.
_ADD_AUDIO = Prepared(
    insert(audio_tables.audio).on_conflict_do_nothing(
        index_elements=["project_id", "sha256", "format", "sample_rate"],
        index_where=_audio.erased_at.is_(None),
    )
)


@dataclass(frozen=True, slots=True)
class NewAudio:
    """A stored blob with its probe result. `duration_ms` is None where the length is unknown."""

    sha256: str
    bytes: int
    blob_key: str
    format: str
    codec: str
    channels: int
    sample_rate: int
    duration_ms: int | None


def new_audio_of(blob: StoredBlob, found: Probe) -> NewAudio:
    """Combine the stored blob and its probe result."""
    # Rounded up to milliseconds as the provider does; less than a nanosecond is a float error.
    duration_ms = None if found.seconds is None else ceil(round(found.seconds * 1000, 6))
    return NewAudio(
        sha256=blob.sha256,
        bytes=blob.bytes,
        blob_key=blob.key,
        format=found.format,
        codec=found.codec,
        channels=found.channels,
        sample_rate=found.sample_rate,
        duration_ms=duration_ms,
    )


def find_or_add_audio(
    tx: sa.Connection, project_id: str, new: NewAudio, now: datetime
) -> tuple[str, str, bool]:
    """Return id and blob key of the project's audio of these bytes, and whether it was added.

    Raw samples do not tell their rate: at another rate the same bytes are another audio.
    """
    audio_id = new_id("aud")
    row = {
        "id": audio_id,
        "project_id": project_id,
        "sha256": new.sha256,
        "bytes": new.bytes,
        "blob_key": new.blob_key,
        "format": new.format,
        "codec": new.codec,
        "channels": new.channels,
        "sample_rate": new.sample_rate,
        "duration_ms": new.duration_ms,
        "created_at": now,
    }
    same = {"sha256": new.sha256, "format": new.format, "sample_rate": new.sample_rate}
    while _ADD_AUDIO.run(tx, row) == 0:
        found = _FIND_AUDIO.first(tx, {"project": project_id, **same})
        if found is not None:  # else it was erased between the two statements
            return found.id, found.blob_key, False
    return audio_id, new.blob_key, True
