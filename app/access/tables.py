"""Projects and their keys."""

import sqlalchemy as sa

from app.db.schema import Id, Json, Utc, metadata

project = sa.Table(
    "project",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False, unique=True),
    sa.Column("created_at", Utc(), nullable=False),
)

api_key = sa.Table(
    "api_key",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("project_id", Id(), sa.ForeignKey("project.id"), nullable=False, index=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("prefix", sa.String(16), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
    sa.Column("scopes", Json(), nullable=False),
    sa.Column("created_at", Utc(), nullable=False),
    sa.Column("expires_at", Utc()),
    sa.Column("last_used_at", Utc()),
    sa.Column("revoked_at", Utc()),
)
