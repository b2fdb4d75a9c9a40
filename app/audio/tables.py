"""Stored audio, content-addressed within its project."""

import sqlalchemy as sa

from app.db.schema import Id, Utc, metadata

audio = sa.Table(
    "audio",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("project_id", Id(), sa.ForeignKey("project.id"), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("bytes", sa.BigInteger(), nullable=False),
    sa.Column("blob_key", sa.String(200), nullable=False, unique=True),
    sa.Column("format", sa.String(40), nullable=False),
    sa.Column("codec", sa.String(40), nullable=False),
    sa.Column("channels", sa.Integer(), nullable=False),
    sa.Column("sample_rate", sa.Integer(), nullable=False),
    sa.Column("duration_ms", sa.BigInteger()),
    sa.Column("created_at", Utc(), nullable=False),
    sa.Column("erased_at", Utc()),
    sa.Column("purged_at", Utc()),
    sa.CheckConstraint("bytes > 0", name="bytes_positive"),
    sa.CheckConstraint("purged_at IS NULL OR erased_at IS NOT NULL", name="purged_after_erased"),
    # The same bytes, read in the same way, are stored once for a project while they are kept.
    sa.Index(
        "uq_audio_kept_content",
        "project_id",
        "sha256",
        "format",
        "sample_rate",
        unique=True,
        sqlite_where=sa.text("erased_at IS NULL"),
        postgresql_where=sa.text("erased_at IS NULL"),
    ),
)
