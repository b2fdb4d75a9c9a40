"""Rows of parts: their spans, results and states."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from app.db.prepared import Prepared
from app.jobs.store.job import Job
from app.jobs.tables import part
from app.kit.records import dataclass
from app.speech.engine import EngineAnswer

_part = part.c
_JOB = sa.bindparam("job", type_=sa.String)
_KNOWN_PARTS = Prepared(
    sa.select(_part.idx).where(
        _part.transcription_id == _JOB, _part.idx.in_(sa.bindparam("indexes", expanding=True))
    )
)
_ADD_PARTS = Prepared(sa.insert(part))
_OF_PART = sa.update(part).where(
    _part.transcription_id == _JOB, _part.idx == sa.bindparam("index"), _part.state == "pending"
)
_FINISH_PART = Prepared(_OF_PART.values(state="done", partial_result=sa.null()))
_GIVE_UP_PART = Prepared(_OF_PART.values(state="gap", partial_result=sa.null()))
_STORE_PARTIAL = Prepared(_OF_PART.values(state="pending"))
_PART_STATE = Prepared(
    sa.select(_part.state).where(_part.transcription_id == _JOB, _part.idx == sa.bindparam("index"))
)


@dataclass(frozen=True, slots=True)
class PartSpan:
    """One part as it was cut; `sha256` of its PCM, or None where it holds no speech."""

    index: int
    start_ms: int
    end_ms: int
    speech_ms: int
    sha256: str | None

    @property
    def length_ms(self) -> int:
        return self.end_ms - self.start_ms


def store_parts(tx: sa.Connection, job: Job, spans: Sequence[PartSpan]) -> None:
    """Store the spans that are not stored yet: the first cut of the audio counts."""
    if not spans:
        return
    indexes = [span.index for span in spans]
    known = set(_KNOWN_PARTS.scalars(tx, {"job": job.id, "indexes": indexes}))
    _ADD_PARTS.add_many(tx, [_row_of(job, span) for span in spans if span.index not in known])


def add_part(tx: sa.Connection, job: Job, span: PartSpan) -> None:
    """Store the first part of a job that was created in the same transaction."""
    _ADD_PARTS.add(tx, _row_of(job, span))


def _row_of(job: Job, span: PartSpan) -> dict[str, Any]:
    return {
        "transcription_id": job.id,
        "idx": span.index,
        "start_ms": span.start_ms,
        "end_ms": span.end_ms,
        "speech_ms": span.speech_ms,
        "state": "pending" if span.sha256 else "silent",
        "pcm_sha256": span.sha256,
    }


def finish_part(tx: sa.Connection, job: Job, index: int, result: Mapping[str, Any]) -> bool:
    """Store the result of a part; return whether the part was still open."""
    terms = {"job": job.id, "index": index, "result": result}
    return _FINISH_PART.run(tx, terms) == 1


def give_up_part(tx: sa.Connection, job: Job, index: int, error_code: str) -> bool:
    """Store that a part stays a gap, and why; return whether the part was still open."""
    terms = {"job": job.id, "index": index, "error_code": error_code}
    return _GIVE_UP_PART.run(tx, terms) == 1


def store_partial(
    tx: sa.Connection, job: Job, index: int, partial_result: Mapping[str, Any]
) -> None:
    """Store paid answers that do not complete the part."""
    _STORE_PARTIAL.run(tx, {"job": job.id, "index": index, "partial_result": partial_result})


def is_finished(tx: sa.Connection, job: Job, index: int) -> bool:
    """Whether a part has a result or was given up."""
    return bool(_PART_STATE.scalar(tx, {"job": job.id, "index": index}) != "pending")


def stored_result(answer: EngineAnswer, engine: str) -> dict[str, Any]:
    """Return the part of an answer that is stored; times count from the part's start."""
    return {
        "engine": engine,
        "text": answer.text,
        "language": answer.language,
        "emotion": answer.emotion,
        "segments": [segment.model_dump() for segment in answer.segments],
        "warnings": list(answer.warnings),
    }
