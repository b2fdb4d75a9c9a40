"""Reads jobs as the API shows them, each on one snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.billing.ledger import JobTotals, totals_by_job
from app.db.prepared import Prepared
from app.jobs.store.job import Audio, JobView
from app.jobs.store.job_spec import JobOptions, JobPlan
from app.jobs.tables import OPEN, audio_tables, transcript, transcription, upstream_call
from app.kit.paging import Page, encode_cursor
from app.speech.warning_codes import WarningCode

_row = transcription.c
_audio = audio_tables.audio


def _select_jobs(segments: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Return the select of the columns that the API shows of jobs; `segments` may be left out."""
    return (
        sa.select(
            transcription,
            _audio.c.blob_key,
            _audio.c.bytes,
            _audio.c.format,
            _audio.c.channels,
            _audio.c.sample_rate,
            _audio.c.duration_ms,
            transcript.c.text,
            transcript.c.language,
            transcript.c.emotion,
            segments.label("segments"),
            transcript.c.coverage,
        )
        .outerjoin(_audio, _audio.c.id == _row.audio_id)
        .outerjoin(transcript, transcript.c.transcription_id == _row.id)
        .order_by(_row.id.desc())
    )


# Statements are built once: building them takes longer than running them.
_STATUS = Prepared(sa.select(_row.status).where(_row.id == sa.bindparam("job")))
_PROJECT = Prepared(sa.select(_row.project_id).where(_row.id == sa.bindparam("job")))
_ONE = _select_jobs(transcript.c.segments).where(
    _row.project_id == sa.bindparam("project"), _row.id == sa.bindparam("job")
)
_LISTED = _select_jobs(sa.null())
_TASK = Prepared(
    sa.select(upstream_call.c.task_id)
    .where(
        upstream_call.c.transcription_id == sa.bindparam("job"),
        upstream_call.c.task_id.is_not(None),
    )
    .order_by(upstream_call.c.id.desc())
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class Filters:
    """Filters of a list; None does not filter. A job must have all members of `metadata`."""

    status: str | None = None
    model: str | None = None
    reference: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def has_ended(tx: sa.Connection, job_id: str) -> bool:
    """Tell whether a job has ended (a job that does not exist has)."""
    return _STATUS.scalar(tx, {"job": job_id}) not in OPEN


def project_of(tx: sa.Connection, job_id: str) -> str | None:
    """Return the project of a job; None if there is no job of this id."""
    project_id: str | None = _PROJECT.scalar(tx, {"job": job_id})
    return project_id


def find_job(tx: sa.Connection, project_id: str, job_id: str) -> JobView | None:
    """Return one job of the project, erased ones included; None if it has none of this id."""
    found = _views(tx, _ONE, {"project": project_id, "job": job_id})
    if found and found[0].plan.kind == "filetrans":
        found = [replace(found[0], task_id=_TASK.scalar(tx, {"job": job_id}))]
    if not found or not found[0].options.keeps_raw:
        return found[0] if found else None
    answers = tx.scalars(
        sa.select(upstream_call.c.answer)
        .where(upstream_call.c.transcription_id == job_id, upstream_call.c.state == "answered")
        .order_by(upstream_call.c.part_idx)
    )
    return replace(found[0], raw=list(answers))


def list_jobs(
    tx: sa.Connection, project_id: str, filters: Filters, *, after: str | None, limit: int
) -> Page[JobView]:
    """Return a page of the project's jobs, newest first, without deleted ones and segments."""
    wanted = [_row.project_id == project_id, _row.erased_at.is_(None)]
    wanted += [
        _row[name] == value
        for name in ("status", "model", "reference")
        if (value := getattr(filters, name)) is not None
    ]
    if filters.created_after is not None:
        wanted.append(_row.created_at >= filters.created_after)
    if filters.created_before is not None:
        wanted.append(_row.created_at < filters.created_before)
    is_postgres = tx.dialect.name == "postgresql"
    members = sa.func.jsonb_each_text if is_postgres else sa.func.json_each
    for name, value in filters.metadata.items():  # a name may contain quotes and dots
        each = members(_row.client_metadata).table_valued("key", "value", name="note")
        wanted.append(sa.exists().where(each.c.key == name, each.c.value == value))
    if after is not None:
        wanted.append(_row.id < after)
    found = _views(tx, _LISTED.where(*wanted).limit(limit + 1))
    more = len(found) > limit
    return Page(found[:limit], encode_cursor(found[limit - 1].id) if more else None)


def _views(
    tx: sa.Connection, query: sa.Select[Any], terms: Mapping[str, str] | None = None
) -> list[JobView]:
    rows = tx.execute(query, terms).all()
    money = totals_by_job(tx, [row.id for row in rows])
    views = []
    for row in rows:
        same = ("id", "status", "mode", "model", "engine", "error")
        is_open = row.status in OPEN
        audio = words = None
        if row.audio_id is not None:
            audio = Audio(
                row.audio_id,
                row.blob_key,
                row.bytes,
                row.format,
                row.channels,
                row.sample_rate,
                row.duration_ms,
            )
        if row.text is not None and not is_open:
            words = {
                "text": row.text,
                "language": row.language,
                "emotion": row.emotion,
                "segments": row.segments or [],
                "coverage": row.coverage,
            }
        times = ("created_at", "started_at", "completed_at", "erased_at")
        view = JobView(
            **{name: getattr(row, name) for name in (*same, *times, "reference", "done_ms")},
            plan=JobPlan.from_json(row.plan),
            options=JobOptions.from_json(row.options),
            currency=row.tariff["currency"],
            metadata=row.client_metadata,
            audio=audio,
            totals=money.get(row.id, JobTotals()),
            transcript=words,
            warnings=[
                one for one in row.warnings if not (is_open and one["code"] == WarningCode.GAP)
            ],
        )
        views.append(view)
    return views
