"""Partial indexes are used: SQLite needs their condition repeated in the query, with literals.

Covers: app.billing.usage
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from app.billing.usage import Period, sum_usage
from app.db.database import Database
from app.jobs.store.runs import clear_leases, find_stalled

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 21, tzinfo=UTC)

USES: dict[str, Callable[[sa.Connection], object]] = {
    "ix_transcription_open": lambda tx: find_stalled(tx, after="tr_0", limit=9),
    "ix_transcription_open ": clear_leases,
    "ix_ledger_line_project_usage": lambda tx: sum_usage(
        tx, project_id="prj_1", period=Period(NOW, NOW), by=["day"]
    ),
}


@pytest.mark.parametrize("index", USES)
async def test_a_partial_index_is_used(db: Database, index: str) -> None:
    if db.is_shared:
        pytest.skip("PostgreSQL plans by statistics, which an empty database has not")

    def plan(tx: sa.Connection) -> str:
        sent: list[tuple[str, Any]] = []

        def note(_tx: Any, _cursor: Any, sql: str, values: Any, *_: object) -> None:
            sent.append((sql, values))

        sa.event.listen(tx, "before_cursor_execute", note)
        USES[index](tx)
        sa.event.remove(tx, "before_cursor_execute", note)
        ((sql, values),) = sent
        raw: Any = tx.connection.dbapi_connection
        return str(raw.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall())

    assert f"INDEX {index.strip()}" in await db.write(plan)
