"""Prices with their validity interval, and the append-only ledger."""

import sqlalchemy as sa

from app.db.schema import Id, Utc, metadata, one_of

UNITS = ("second", "input_token", "output_token", "text_input_token")
KINDS = ("hold", "settle", "release", "adjust", "saved")
USAGE_KINDS = ("settle", "adjust")  # usage and cost

price = sa.Table(
    "price",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("model", sa.String(100), nullable=False),
    sa.Column("region", sa.String(40), nullable=False),
    sa.Column("unit", sa.String(20), nullable=False),
    sa.Column("nano", sa.BigInteger(), nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("valid_from", Utc(), nullable=False),
    sa.Column("valid_until", Utc()),
    sa.Column("source", sa.String(300), nullable=False),
    sa.UniqueConstraint("model", "region", "unit", "valid_from", name="uq_price_interval"),
    one_of("unit", *UNITS, name="unit"),
    sa.CheckConstraint("nano >= 0", name="nano"),
    sa.CheckConstraint("valid_until IS NULL OR valid_until > valid_from", name="interval"),
)

ledger_line = sa.Table(
    "ledger_line",
    metadata,
    sa.Column("id", Id(), nullable=False),
    sa.Column("project_id", Id(), sa.ForeignKey("project.id"), nullable=False),
    sa.Column("key_id", Id(), sa.ForeignKey("api_key.id")),
    sa.Column("transcription_id", Id(), sa.ForeignKey("transcription.id"), nullable=False),
    # A retry of an ended job begins a new retry epoch, with its own hold.
    sa.Column("retry_epoch", sa.Integer(), nullable=False, server_default="0"),
    sa.Column("call_id", Id(), sa.ForeignKey("upstream_call.id")),
    sa.Column("model", sa.String(100), nullable=False),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("nano", sa.BigInteger(), nullable=False),
    sa.Column("used_ms", sa.BigInteger(), nullable=False, server_default="0"),
    sa.Column("used_tokens", sa.BigInteger(), nullable=False, server_default="0"),
    sa.Column("estimated", sa.Boolean(), nullable=False, server_default=sa.false()),
    sa.Column("created_at", Utc(), nullable=False),
    one_of("kind", *KINDS, name="kind"),
    sa.CheckConstraint("kind = 'adjust' OR nano >= 0", name="nano"),
    sa.CheckConstraint("used_ms >= 0 AND used_tokens >= 0", name="used"),
    sa.CheckConstraint("kind <> 'settle' OR call_id IS NOT NULL", name="settle_names_call"),
    sa.PrimaryKeyConstraint("transcription_id", "id"),
    sa.Index(
        "ix_ledger_line_project_usage",
        "project_id",
        "created_at",
        sqlite_where=sa.text(f"kind IN {USAGE_KINDS}"),
        postgresql_where=sa.text(f"kind IN {USAGE_KINDS}"),
    ),
    # A call is settled once, a retry epoch is released once, and each hold is taken once.
    sa.Index(
        "uq_ledger_line_settle",
        "call_id",
        unique=True,
        sqlite_where=sa.text("kind = 'settle'"),
        postgresql_where=sa.text("kind = 'settle'"),
    ),
    sa.Index(
        "uq_ledger_line_release",
        "transcription_id",
        "retry_epoch",
        unique=True,
        sqlite_where=sa.text("kind = 'release'"),
        postgresql_where=sa.text("kind = 'release'"),
    ),
    sa.Index(
        "uq_ledger_line_hold",
        "transcription_id",
        "retry_epoch",
        unique=True,
        sqlite_where=sa.text("kind = 'hold' AND call_id IS NULL"),
        postgresql_where=sa.text("kind = 'hold' AND call_id IS NULL"),
    ),
    sa.Index(
        "uq_ledger_line_further_hold",
        "call_id",
        unique=True,
        sqlite_where=sa.text("kind = 'hold'"),
        postgresql_where=sa.text("kind = 'hold'"),
    ),
    sqlite_with_rowid=False,
)
