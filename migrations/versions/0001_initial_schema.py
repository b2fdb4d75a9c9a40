"""Initial schema: projects, keys, audio, jobs, parts, calls, transcripts, events, prices, ledger.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.String(48)
MOMENT = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

# What history says stays said: the databases themselves refuse to change it. Events may be
# deleted, because they hold words and words can be erased; ledger lines may not.
FROZEN = {"ledger_line": ("UPDATE", "DELETE"), "event": ("UPDATE",)}


def freeze() -> None:
    postgres = op.get_bind().dialect.name == "postgresql"
    if postgres:
        op.execute(
            "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
        )
    for table, deeds in FROZEN.items():
        for deed in deeds:
            body = (
                "EXECUTE FUNCTION refuse_change()"
                if postgres
                else f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
            each = "FOR EACH ROW " if postgres else ""
            op.execute(
                f"CREATE TRIGGER {table}_no_{deed.lower()} BEFORE {deed} ON {table} {each}{body}"
            )


def upgrade() -> None:
    op.create_table(
        "instance_fact",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_instance_fact"),
    )
    op.create_table(
        "rate_limit",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("next_slot_at", MOMENT, nullable=False),
        sa.Column("blocked_until", MOMENT, nullable=True),
        sa.Column("block_count", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint("block_count >= 0", name=op.f("ck_rate_limit_block_count")),
        sa.PrimaryKeyConstraint("key", name="pk_rate_limit"),
    )
    op.create_table(
        "price",
        sa.Column("id", ID, nullable=False),
        sa.Column("model", sa.String(length=100), nullable=False),
        sa.Column("region", sa.String(length=40), nullable=False),
        sa.Column("unit", sa.String(length=20), nullable=False),
        sa.Column("nano", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("valid_from", MOMENT, nullable=False),
        sa.Column("valid_until", MOMENT, nullable=True),
        sa.Column("source", sa.String(length=300), nullable=False),
        sa.CheckConstraint(
            "unit IN ('second', 'input_token', 'output_token', 'text_input_token')",
            name=op.f("ck_price_unit"),
        ),
        sa.CheckConstraint("nano >= 0", name=op.f("ck_price_nano")),
        sa.CheckConstraint(
            "valid_until IS NULL OR valid_until > valid_from", name=op.f("ck_price_interval")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_price"),
        sa.UniqueConstraint("model", "region", "unit", "valid_from", name="uq_price_interval"),
    )
    op.create_table(
        "project",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_project"),
        sa.UniqueConstraint("name", name="uq_project_name"),
    )
    op.create_table(
        "api_key",
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("scopes", JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=True),
        sa.Column("last_used_at", MOMENT, nullable=True),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name="fk_api_key_project_id_project"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.UniqueConstraint("hash", name="uq_api_key_hash"),
    )
    op.create_index("ix_api_key_project_id", "api_key", ["project_id"], unique=False)

    op.create_table(
        "audio",
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("blob_key", sa.String(length=200), nullable=False),
        sa.Column("format", sa.String(length=40), nullable=False),
        sa.Column("codec", sa.String(length=40), nullable=False),
        sa.Column("channels", sa.Integer(), nullable=False),
        sa.Column("sample_rate", sa.Integer(), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("erased_at", MOMENT, nullable=True),
        sa.Column("purged_at", MOMENT, nullable=True),
        sa.CheckConstraint("bytes > 0", name=op.f("ck_audio_bytes_positive")),
        sa.CheckConstraint(
            "purged_at IS NULL OR erased_at IS NOT NULL", name=op.f("ck_audio_purged_after_erased")
        ),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_audio_project_id_project"),
        sa.PrimaryKeyConstraint("id", name="pk_audio"),
        sa.UniqueConstraint("blob_key", name="uq_audio_blob_key"),
    )
    op.create_index(
        "uq_audio_kept_content",
        "audio",
        ["project_id", "sha256", "format", "sample_rate"],
        unique=True,
        sqlite_where=sa.text("erased_at IS NULL"),
        postgresql_where=sa.text("erased_at IS NULL"),
    )

    op.create_table(
        "transcription",
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("key_id", ID, nullable=True),
        sa.Column("audio_id", ID, nullable=True),
        sa.Column("source_url", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("mode", sa.String(length=10), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("model", sa.String(length=100), nullable=False),
        sa.Column("engine", sa.String(length=40), nullable=False),
        sa.Column("options", JSON, nullable=False),
        sa.Column("plan", JSON, nullable=False),
        sa.Column("tariff", JSON, nullable=False),
        sa.Column("fallbacks", JSON, nullable=False),
        sa.Column("warnings", JSON, nullable=False),
        sa.Column("error", JSON, nullable=True),
        sa.Column("reference", sa.String(length=200), nullable=True),
        sa.Column("client_metadata", JSON, nullable=True),
        sa.Column("run_epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("retry_epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("runs_without_progress", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_until", MOMENT, nullable=True),
        sa.Column("deferred_since", MOMENT, nullable=True),
        sa.Column("event_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("done_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("completed_at", MOMENT, nullable=True),
        sa.Column("erased_at", MOMENT, nullable=True),
        sa.CheckConstraint(
            "(status = 'failed') = (error IS NOT NULL)",
            name=op.f("ck_transcription_failed_has_an_error"),
        ),
        sa.CheckConstraint(
            "(status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL)",
            name=op.f("ck_transcription_ended_has_a_time"),
        ),
        sa.CheckConstraint(
            "status IN ('queued', 'processing', 'completed', 'failed', 'cancelled')",
            name=op.f("ck_transcription_status"),
        ),
        sa.CheckConstraint(
            "audio_id IS NOT NULL OR source_url IS NOT NULL OR completed_at IS NOT NULL",
            name=op.f("ck_transcription_open_has_a_source"),
        ),
        sa.CheckConstraint(
            "erased_at IS NULL OR completed_at IS NOT NULL",
            name=op.f("ck_transcription_erased_after_end"),
        ),
        sa.ForeignKeyConstraint(["audio_id"], ["audio.id"], name="fk_transcription_audio_id_audio"),
        sa.ForeignKeyConstraint(["key_id"], ["api_key.id"], name="fk_transcription_key_id_api_key"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name="fk_transcription_project_id_project"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_transcription"),
    )
    op.create_index("ix_transcription_audio_id", "transcription", ["audio_id"], unique=False)
    op.create_index(
        "ix_transcription_open",
        "transcription",
        ["id"],
        unique=False,
        sqlite_where=sa.text("status IN ('queued', 'processing')"),
        postgresql_where=sa.text("status IN ('queued', 'processing')"),
    )
    op.create_index(
        "ix_transcription_project_id_id", "transcription", ["project_id", "id"], unique=False
    )

    op.create_table(
        "event",
        sa.Column("transcription_id", ID, nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("type", sa.String(length=20), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.CheckConstraint("seq >= 1", name=op.f("ck_event_seq")),
        sa.ForeignKeyConstraint(
            ["transcription_id"],
            ["transcription.id"],
            name="fk_event_transcription_id_transcription",
        ),
        sa.PrimaryKeyConstraint("transcription_id", "seq", name="pk_event"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "part",
        sa.Column("transcription_id", ID, nullable=False),
        sa.Column("idx", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("end_ms", sa.BigInteger(), nullable=False),
        sa.Column("speech_ms", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("pcm_sha256", sa.String(length=64), nullable=True),
        sa.Column("result", JSON, nullable=True),
        sa.Column("partial_result", JSON, nullable=True),
        sa.Column("error_code", sa.String(length=40), nullable=True),
        sa.CheckConstraint(
            "(state = 'done') = (result IS NOT NULL)", name=op.f("ck_part_done_has_a_result")
        ),
        sa.CheckConstraint(
            "(state = 'gap') = (error_code IS NOT NULL)", name=op.f("ck_part_gap_has_a_reason")
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'done', 'silent', 'gap')", name=op.f("ck_part_state")
        ),
        sa.CheckConstraint("0 <= start_ms AND start_ms <= end_ms", name=op.f("ck_part_span")),
        sa.ForeignKeyConstraint(
            ["transcription_id"],
            ["transcription.id"],
            name="fk_part_transcription_id_transcription",
        ),
        sa.PrimaryKeyConstraint("transcription_id", "idx", name="pk_part"),
    )
    op.create_table(
        "transcript",
        sa.Column("transcription_id", ID, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("language", sa.String(length=20), nullable=True),
        sa.Column("emotion", sa.String(length=20), nullable=True),
        sa.Column("segments", JSON, nullable=False),
        sa.Column("coverage", sa.Float(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.CheckConstraint("coverage BETWEEN 0 AND 1", name=op.f("ck_transcript_coverage")),
        sa.ForeignKeyConstraint(
            ["transcription_id"],
            ["transcription.id"],
            name="fk_transcript_transcription_id_transcription",
        ),
        sa.PrimaryKeyConstraint("transcription_id", name="pk_transcript"),
    )
    op.create_table(
        "upstream_call",
        sa.Column("id", ID, nullable=False),
        sa.Column("transcription_id", ID, nullable=False),
        sa.Column("part_idx", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("run_epoch", sa.Integer(), nullable=False),
        sa.Column("engine", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("audio_ms", sa.BigInteger(), nullable=False),
        sa.Column("max_cost_nano", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.String(length=200), nullable=True),
        sa.Column("task_id", sa.String(length=200), nullable=True),
        sa.Column("usage", JSON, nullable=True),
        sa.Column("answer", JSON, nullable=True),
        sa.Column("error_kind", sa.String(length=30), nullable=True),
        sa.Column("billed", sa.String(length=5), nullable=True),
        sa.Column("opened_at", MOMENT, nullable=False),
        sa.Column("closed_at", MOMENT, nullable=True),
        sa.CheckConstraint(
            "(state = 'open') = (closed_at IS NULL)",
            name=op.f("ck_upstream_call_closed_has_a_time"),
        ),
        sa.CheckConstraint(
            "state IN ('open', 'answered', 'failed', 'in_doubt')",
            name=op.f("ck_upstream_call_state"),
        ),
        sa.CheckConstraint("max_cost_nano >= 0", name=op.f("ck_upstream_call_bound")),
        sa.ForeignKeyConstraint(
            ["transcription_id", "part_idx"],
            ["part.transcription_id", "part.idx"],
            name="fk_upstream_call_part",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_upstream_call"),
        sa.UniqueConstraint(
            "transcription_id", "part_idx", "attempt", name="uq_upstream_call_attempt"
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ledger_line",
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("key_id", ID, nullable=True),
        sa.Column("transcription_id", ID, nullable=False),
        sa.Column("retry_epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("call_id", ID, nullable=True),
        sa.Column("model", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("nano", sa.BigInteger(), nullable=False),
        sa.Column("used_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("used_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("estimated", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.CheckConstraint(
            "kind <> 'settle' OR call_id IS NOT NULL", name=op.f("ck_ledger_line_settle_names_call")
        ),
        sa.CheckConstraint("kind = 'adjust' OR nano >= 0", name=op.f("ck_ledger_line_nano")),
        sa.CheckConstraint(
            "kind IN ('hold', 'settle', 'release', 'adjust', 'saved')",
            name=op.f("ck_ledger_line_kind"),
        ),
        sa.CheckConstraint("used_ms >= 0 AND used_tokens >= 0", name=op.f("ck_ledger_line_used")),
        sa.ForeignKeyConstraint(
            ["call_id"], ["upstream_call.id"], name="fk_ledger_line_call_id_upstream_call"
        ),
        sa.ForeignKeyConstraint(["key_id"], ["api_key.id"], name="fk_ledger_line_key_id_api_key"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name="fk_ledger_line_project_id_project"
        ),
        sa.ForeignKeyConstraint(
            ["transcription_id"],
            ["transcription.id"],
            name="fk_ledger_line_transcription_id_transcription",
        ),
        sa.PrimaryKeyConstraint("transcription_id", "id", name="pk_ledger_line"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_ledger_line_project_usage",
        "ledger_line",
        ["project_id", "created_at"],
        unique=False,
        sqlite_where=sa.text("kind IN ('settle', 'adjust')"),
        postgresql_where=sa.text("kind IN ('settle', 'adjust')"),
    )
    op.create_index(
        "uq_ledger_line_further_hold",
        "ledger_line",
        ["call_id"],
        unique=True,
        sqlite_where=sa.text("kind = 'hold'"),
        postgresql_where=sa.text("kind = 'hold'"),
    )
    op.create_index(
        "uq_ledger_line_hold",
        "ledger_line",
        ["transcription_id", "retry_epoch"],
        unique=True,
        sqlite_where=sa.text("kind = 'hold' AND call_id IS NULL"),
        postgresql_where=sa.text("kind = 'hold' AND call_id IS NULL"),
    )
    op.create_index(
        "uq_ledger_line_release",
        "ledger_line",
        ["transcription_id", "retry_epoch"],
        unique=True,
        sqlite_where=sa.text("kind = 'release'"),
        postgresql_where=sa.text("kind = 'release'"),
    )
    op.create_index(
        "uq_ledger_line_settle",
        "ledger_line",
        ["call_id"],
        unique=True,
        sqlite_where=sa.text("kind = 'settle'"),
        postgresql_where=sa.text("kind = 'settle'"),
    )
    freeze()


def downgrade() -> None:
    for table, deeds in FROZEN.items():
        for deed in deeds:
            name = f"{table}_no_{deed.lower()}"
            on = f" ON {table}" if op.get_bind().dialect.name == "postgresql" else ""
            op.execute(f"DROP TRIGGER {name}{on}")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change()")
    op.drop_table("ledger_line")
    op.drop_table("upstream_call")
    op.drop_table("transcript")
    op.drop_table("part")
    op.drop_table("event")
    op.drop_table("transcription")
    op.drop_table("audio")
    op.drop_table("api_key")
    op.drop_table("project")
    op.drop_table("price")
    op.drop_table("rate_limit")
    op.drop_table("instance_fact")
