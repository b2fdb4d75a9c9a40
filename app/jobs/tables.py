"""The tables of a transcription: the job, its parts, their calls, its transcript and its events.

Importing this module loads all tables of the schema, which migrations compare with the database.
"""

import sqlalchemy as sa

from app.access import tables as access_tables
from app.audio import tables as audio_tables
from app.billing import tables as billing_tables
from app.db import rate_limit, shared_settings
from app.db.schema import Id, Json, Utc, literals, metadata, one_of

__all__ = [
    "access_tables",
    "audio_tables",
    "billing_tables",
    "metadata",
    "rate_limit",
    "shared_settings",
]

OPEN = ("queued", "processing")
ENDED = ("completed", "failed", "cancelled")
PART_STATES = ("pending", "done", "silent", "gap")
CALL_STATES = ("open", "answered", "failed", "in_doubt")

transcription = sa.Table(
    "transcription",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("project_id", Id(), sa.ForeignKey("project.id"), nullable=False),
    sa.Column("key_id", Id(), sa.ForeignKey("api_key.id")),
    # Known once the audio is stored: the job's run fetches audio that is given by a URL.
    sa.Column("audio_id", Id(), sa.ForeignKey("audio.id"), index=True),
    sa.Column("source_url", sa.Text()),
    sa.Column("status", sa.String(12), nullable=False),
    sa.Column("mode", sa.String(10), nullable=False),
    sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
    sa.Column("model", sa.String(100), nullable=False),
    sa.Column("engine", sa.String(40), nullable=False),
    sa.Column("options", Json(), nullable=False),
    sa.Column("plan", Json(), nullable=False),
    sa.Column("tariff", Json(), nullable=False),
    sa.Column("fallbacks", Json(), nullable=False),
    sa.Column("warnings", Json(), nullable=False),
    sa.Column("error", Json()),
    sa.Column("reference", sa.String(200)),
    sa.Column("client_metadata", Json()),
    sa.Column("run_epoch", sa.Integer(), nullable=False, server_default="0"),
    # The epoch at which the present retry epoch began: 0, or that of the last retry.
    sa.Column("retry_epoch", sa.Integer(), nullable=False, server_default="0"),
    sa.Column("runs_without_progress", sa.Integer(), nullable=False, server_default="0"),
    sa.Column("lease_until", Utc()),
    sa.Column("deferred_since", Utc()),
    sa.Column("event_count", sa.Integer(), nullable=False, server_default="0"),
    sa.Column("done_ms", sa.BigInteger(), nullable=False, server_default="0"),
    sa.Column("created_at", Utc(), nullable=False),
    sa.Column("started_at", Utc()),
    sa.Column("completed_at", Utc()),
    sa.Column("erased_at", Utc()),
    one_of("status", *OPEN, *ENDED, name="status"),
    sa.CheckConstraint(
        "(status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL)",
        name="ended_has_a_time",
    ),
    sa.CheckConstraint("(status = 'failed') = (error IS NOT NULL)", name="failed_has_an_error"),
    sa.CheckConstraint(
        "audio_id IS NOT NULL OR source_url IS NOT NULL OR completed_at IS NOT NULL",
        name="open_has_a_source",
    ),
    sa.CheckConstraint("erased_at IS NULL OR completed_at IS NOT NULL", name="erased_after_end"),
    sa.Index("ix_transcription_project_id_id", "project_id", "id"),
    sa.Index(
        "ix_transcription_open",
        "id",
        sqlite_where=sa.text("status IN ('queued', 'processing')"),
        postgresql_where=sa.text("status IN ('queued', 'processing')"),
    ),
)

IS_OPEN = transcription.c.status.in_(literals(OPEN))
PLAN_KIND: sa.ColumnElement[str] = transcription.c.plan["kind"].as_string()

part = sa.Table(
    "part",
    metadata,
    sa.Column("transcription_id", Id(), sa.ForeignKey("transcription.id"), primary_key=True),
    sa.Column("idx", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("start_ms", sa.BigInteger(), nullable=False),
    sa.Column("end_ms", sa.BigInteger(), nullable=False),
    sa.Column("speech_ms", sa.BigInteger(), nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("pcm_sha256", sa.String(64)),
    sa.Column("result", Json()),
    # Paid answers that do not complete the part: it is sent again (see loop_repair.py).
    sa.Column("partial_result", Json()),
    sa.Column("error_code", sa.String(40)),
    one_of("state", *PART_STATES, name="state"),
    sa.CheckConstraint("0 <= start_ms AND start_ms <= end_ms", name="span"),
    sa.CheckConstraint("(state = 'done') = (result IS NOT NULL)", name="done_has_a_result"),
    sa.CheckConstraint("(state = 'gap') = (error_code IS NOT NULL)", name="gap_has_a_reason"),
)

upstream_call = sa.Table(
    "upstream_call",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("transcription_id", Id(), nullable=False),
    sa.Column("part_idx", sa.Integer(), nullable=False),
    sa.Column("attempt", sa.Integer(), nullable=False),
    sa.Column("run_epoch", sa.Integer(), nullable=False),
    sa.Column("engine", sa.String(40), nullable=False),
    sa.Column("model", sa.String(100), nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("audio_ms", sa.BigInteger(), nullable=False),
    sa.Column("max_cost_nano", sa.BigInteger(), nullable=False),
    sa.Column("request_id", sa.String(200)),
    sa.Column("task_id", sa.String(200)),
    sa.Column("usage", Json()),
    sa.Column("answer", Json()),
    sa.Column("error_kind", sa.String(30)),
    sa.Column("billed", sa.String(5)),
    sa.Column("opened_at", Utc(), nullable=False),
    sa.Column("closed_at", Utc()),
    sa.ForeignKeyConstraint(
        ["transcription_id", "part_idx"],
        ["part.transcription_id", "part.idx"],
        name="fk_upstream_call_part",
    ),
    sa.UniqueConstraint("transcription_id", "part_idx", "attempt", name="uq_upstream_call_attempt"),
    one_of("state", *CALL_STATES, name="state"),
    sa.CheckConstraint("(state = 'open') = (closed_at IS NULL)", name="closed_has_a_time"),
    sa.CheckConstraint("max_cost_nano >= 0", name="bound"),
    sqlite_with_rowid=False,
)

transcript = sa.Table(
    "transcript",
    metadata,
    sa.Column("transcription_id", Id(), sa.ForeignKey("transcription.id"), primary_key=True),
    sa.Column("text", sa.Text(), nullable=False),
    sa.Column("language", sa.String(20)),
    sa.Column("emotion", sa.String(20)),
    sa.Column("segments", Json(), nullable=False),
    sa.Column("coverage", sa.Float(), nullable=False),
    sa.Column("created_at", Utc(), nullable=False),
    sa.CheckConstraint("coverage BETWEEN 0 AND 1", name="coverage"),
)

event = sa.Table(
    "event",
    metadata,
    sa.Column("transcription_id", Id(), sa.ForeignKey("transcription.id"), primary_key=True),
    sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("type", sa.String(20), nullable=False),
    sa.Column("data", Json(), nullable=False),
    sa.Column("created_at", Utc(), nullable=False),
    sa.CheckConstraint("seq >= 1", name="seq"),
    sqlite_with_rowid=False,
)
