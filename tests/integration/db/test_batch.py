"""Waiting inserts change nothing in the results, the committed rows and the errors.

Covers: app.db.batch, app.db.driver
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from app.access.tables import api_key, project
from app.billing.tables import ledger_line
from app.db import driver
from app.db.batch import MAX_INSERTS
from app.db.database import Database
from app.db.prepared import Prepared
from app.db.schema import Utc
from app.jobs.tables import event, transcription, upstream_call

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 21, 5, 28, tzinfo=UTC)
ADD_PROJECT = Prepared(sa.insert(project))
ADD_KEY = Prepared(sa.insert(api_key))
NAMES = Prepared(sa.select(project.c.name).order_by(project.c.name))
KEYS = Prepared(sa.select(api_key.c.id).order_by(api_key.c.id))
RENAME = Prepared(sa.update(project).where(project.c.id == sa.bindparam("its_id")))
LEDGER = ["ledger_line"]
REVOKE = Prepared(
    sa.update(api_key)
    .where(api_key.c.id == sa.bindparam("its_id"))
    .values(revoked_at=sa.bindparam("now", type_=Utc()))
)


def a_project(name: str) -> dict[str, Any]:
    return {"id": f"prj_{name}", "name": name, "created_at": NOW}


def a_key(name: str, of: str) -> dict[str, Any]:
    names = {"id": f"key_{name}", "name": name, "prefix": "", "hash": name, "scopes": []}
    return {**names, "project_id": f"prj_{of}", "created_at": NOW}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that went to the driver."""
    statements: list[str] = []
    execute = driver.execute

    def note(tx: sa.Connection, sql: str, arguments: Any, **how: Any) -> Any:
        statements.append(sql)
        return execute(tx, sql, arguments, **how)

    monkeypatch.setattr(driver, "execute", note)
    return statements


async def test_inserts_go_with_the_next_statement_of_other_tables(
    db: Database, sent: list[str]
) -> None:
    def work(tx: sa.Connection) -> tuple[list[Any], int]:
        ADD_PROJECT.add(tx, a_project("a"))
        ADD_PROJECT.add_many(tx, [a_project("b"), a_project("c")])
        changed = REVOKE.run(tx, {"its_id": "key_none", "now": NOW})
        return KEYS.all(tx), changed

    assert await db.write(work) == ([], 0)
    assert await db.read(NAMES.scalars) == ["a", "b", "c"]
    if db.is_shared:
        first, *others = sent
        assert first.count("INSERT") == 3
        assert "UPDATE api_key" in first
        assert len(others) == 2
    else:
        assert len(sent) == 5  # b and c with one call


@pytest.mark.parametrize("reader", [NAMES.scalars, lambda tx: list(tx.scalars(NAMES._statement))])
async def test_a_read_sees_waiting_inserts(db: Database, reader: Any) -> None:
    def work(tx: sa.Connection) -> list[str]:
        ADD_PROJECT.add(tx, a_project("a"))
        ADD_PROJECT.add(tx, a_project("b"))
        return list(reader(tx))

    assert await db.write(work) == ["a", "b"]


async def test_an_update_changes_waiting_inserts(db: Database) -> None:
    def work(tx: sa.Connection) -> int:
        ADD_PROJECT.add(tx, a_project("a"))
        return RENAME.run(tx, {"its_id": "prj_a", "name": "renamed"})

    assert await db.write(work) == 1
    assert await db.read(NAMES.scalars) == ["renamed"]


async def test_a_row_and_its_parent_can_wait_together(db: Database, sent: list[str]) -> None:
    def work(tx: sa.Connection) -> None:
        ADD_PROJECT.add(tx, a_project("a"))
        ADD_KEY.add(tx, a_key("one", of="a"))
        ADD_KEY.add(tx, a_key("two", of="a"))

    await db.write(work)
    assert len(sent) == (1 if db.is_shared else 3)
    assert await db.read(KEYS.scalars) == ["key_one", "key_two"]


async def test_results_are_those_of_the_statement(db: Database) -> None:
    returning = Prepared(
        sa.update(api_key)
        .where(api_key.c.project_id == sa.bindparam("project"))
        .values(name="renamed", last_used_at=NOW)
        .returning(api_key.c.id, api_key.c.last_used_at)
    )

    def work(tx: sa.Connection) -> tuple[Any, ...]:
        ADD_PROJECT.run(tx, a_project("a"))
        ADD_KEY.run_many(tx, [a_key("one", of="a"), a_key("two", of="a")])
        ADD_PROJECT.add(tx, a_project("b"))
        renamed = returning.all(tx, {"project": "prj_a"})
        ADD_PROJECT.add(tx, a_project("c"))
        return renamed, REVOKE.run(tx, {"its_id": "key_two", "now": NOW}), KEYS.scalars(tx)

    renamed, changed, keys = await db.write(work)
    assert sorted(tuple(row) for row in renamed) == [("key_one", NOW), ("key_two", NOW)]
    assert (changed, keys) == (1, ["key_one", "key_two"])
    assert await db.read(NAMES.scalars) == ["a", "b", "c"]


@pytest.mark.parametrize("ends_by", ["commit", "reading", "core"])
async def test_an_error_is_raised_before_the_commit(db: Database, ends_by: str) -> None:
    def work(tx: sa.Connection) -> None:
        ADD_PROJECT.add(tx, a_project("a"))
        ADD_PROJECT.add(tx, {**a_project("a"), "id": "prj_2"})
        if ends_by == "reading":
            NAMES.all(tx)
        elif ends_by == "core":
            tx.execute(sa.text("SELECT 1"))

    with pytest.raises(sa.exc.IntegrityError) as caught:
        await db.write(work)
    assert "prj_2" not in str(caught.value)
    assert await db.read(NAMES.scalars) == []


async def test_an_invalid_value_is_refused_at_once(db: Database) -> None:
    seen = []

    def work(tx: sa.Connection) -> None:
        try:
            ADD_PROJECT.add(tx, {**a_project("a"), "created_at": NOW.replace(tzinfo=None)})
        except sa.exc.StatementError as error:
            seen.append(str(error.orig))
            raise

    with pytest.raises(sa.exc.StatementError):
        await db.write(work)
    assert "naive" in seen[0]


async def test_inserts_of_a_failed_transaction_are_dropped(db: Database) -> None:
    def fail(tx: sa.Connection) -> None:
        ADD_PROJECT.add(tx, a_project("lost"))
        raise KeyError

    for n in range(20):  # on every connection of the pool
        with pytest.raises(KeyError):
            await db.write(fail)
        await db.write(lambda tx, n=n: ADD_PROJECT.add(tx, a_project(f"{n:02}")))
    assert await db.read(NAMES.scalars) == [f"{n:02}" for n in range(20)]


async def test_write_then_executes_waiting_inserts_first(db: Database) -> None:
    found = []

    async def follow(_: object, connection: Any) -> None:
        if connection is not None:
            found.append(await connection.fetchval("SELECT name FROM project"))

    await db.write_then(follow, lambda tx: ADD_PROJECT.add(tx, a_project("a")))
    assert found == (["a"] if db.is_shared else [])
    assert await db.read(NAMES.scalars) == ["a"]


async def test_many_inserts_are_sent_in_several_statements(db: Database, sent: list[str]) -> None:
    count = 2 * MAX_INSERTS + 3
    rows = [a_project(f"{n:03}") for n in range(count)]
    await db.write(lambda tx: ADD_PROJECT.add_many(tx, rows))
    assert len(sent) == (3 if db.is_shared else 1)
    assert await db.read(NAMES.scalars) == [row["name"] for row in rows]


def tables_of(statement: Any, values: Mapping[str, Any], tx: sa.Connection) -> Sequence[str] | None:
    found = Prepared(statement)._for(tx, values).tables
    return None if found is None else sorted(found)


async def test_the_tables_of_a_statement_are_known(db: Database) -> None:
    """A table that is missed would be read without its waiting inserts."""
    other = upstream_call.alias("other")
    open_calls = sa.exists().where(other.c.transcription_id == transcription.c.id)
    total = sa.select(sa.func.sum(ledger_line.c.nano)).scalar_subquery()
    named = sa.select(project.c.id).cte("named")
    statements: list[tuple[Any, Sequence[str] | None]] = [
        (sa.select(project.c.name), ["project"]),
        (sa.select(sa.func.count()).select_from(event), ["event"]),
        (sa.select(transcription.c.id).where(~open_calls), ["transcription", "upstream_call"]),
        (sa.select(total), LEDGER),
        (sa.select(project.c.id).join(api_key), ["api_key", "project"]),
        (sa.update(project).values(name="x").where(project.c.id == total), [*LEDGER, "project"]),
        (sa.delete(event), ["event"]),
        (sa.select(named.c.id), None),
        (sa.text("SELECT 1"), None),
        (sa.select(sa.literal(1)), None),
    ]

    def work(tx: sa.Connection) -> list[Any]:
        return [tables_of(statement, {}, tx) for statement, _ in statements]

    assert await db.read(work) == [tables for _, tables in statements]
