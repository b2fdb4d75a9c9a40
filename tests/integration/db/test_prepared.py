"""Prepared statements have the results and the errors of SQLAlchemy Core, on both databases.

Covers: app.db.prepared, app.db.compiled, app.db.driver
"""

import enum
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from app.access.tables import project
from app.db.database import Database
from app.db.prepared import Prepared
from app.db.schema import Json, Utc, database_now
from app.errors import DatabaseUnavailable
from app.jobs.tables import metadata

pytestmark = pytest.mark.anyio
MOMENT = datetime(2026, 11, 21, 6, 30, 0, 123456, timezone(timedelta(hours=8)))
BIG = 2**63 - 1
NOTHING_KNOWN = object()
_ID = sa.bindparam("id")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Word(enum.StrEnum):
    NO = "no"


VALUES: dict[type[Any], list[Any]] = {
    Utc: [MOMENT, datetime(1970, 1, 1, tzinfo=UTC), None],
    sa.JSON: [
        {"n": 2**70, "m": -(2**64), "text": 'ä"\u2028\\', "list": [1.5, None, True, []]},
        [],
        "text",
        0,
        False,
        None,
    ],
    sa.Text: ["", "Ünïcode '\"%:x ?", Word.NO, None],
    sa.String: ["", "Ü%'", ":x?", Word.NO, None],
    sa.BigInteger: [BIG, -BIG, 0, None],
    sa.Integer: [2**31 - 1, -1, 0, None],
    sa.Boolean: [True, False, None],
    sa.Float: [0.1, -1e300, 1.0, None],
}


def copy_of(table: sa.Table) -> sa.Table:
    """Return a table with the same column types, and without a constraint."""
    columns = [sa.Column(column.name, column.type) for column in table.columns]
    return sa.Table(f"copy_of_{table.name}", sa.MetaData(), sa.Column("n", sa.Integer), *columns)


def values_of(column: "sa.Column[Any]") -> list[Any]:
    return next(VALUES[kind] for kind in VALUES if isinstance(column.type, kind))


def rows_for(table: sa.Table) -> list[dict[str, Any]]:
    """Return rows in which each column has each sample of its type."""
    samples = {column.name: values_of(column) for column in table.columns}
    most = max(len(values) for values in samples.values())
    return [
        {"n": n, **{name: values[n % len(values)] for name, values in samples.items()}}
        for n in range(most)
    ]


def plain(rows: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("name", sorted(metadata.tables))
async def test_every_column_is_written_and_read_as_by_core(db: Database, name: str) -> None:
    table, rows = copy_of(metadata.tables[name]), rows_for(metadata.tables[name])

    def work(tx: sa.Connection) -> tuple[Any, ...]:
        table.create(tx)
        tx.execute(sa.insert(table), rows)
        query = sa.select(table).order_by(table.c.n)
        by_core = tx.execute(query).all()
        read = Prepared(query).all(tx)
        tx.execute(sa.delete(table))
        Prepared(sa.insert(table)).run_many(tx, rows)
        written = tx.execute(query).all()
        tx.execute(sa.delete(table))
        add = Prepared(sa.insert(table))
        assert [add.run(tx, row) for row in rows] == [1] * len(rows)
        return by_core, read, written, tx.execute(query).all()

    by_core, read, *written = await db.write(work)
    assert plain(read) == plain(by_core)
    assert [plain(rows) for rows in written] == [plain(by_core)] * 2
    assert [list(row._fields) for row in read] == [list(row._fields) for row in by_core]
    types = [[type(value) for value in row] for row in by_core]
    assert [[type(value) for value in row] for row in read] == types


async def test_enums_and_driver_types_are_read_as_by_core(db: Database) -> None:
    table = sa.Table(
        "typed",
        sa.MetaData(),
        sa.Column("colour", sa.Enum(Colour, native_enum=False)),
        sa.Column("amount", sa.Numeric(20, 9)),
        sa.Column("raw", sa.LargeBinary()),
        sa.Column("moment", Utc()),
        sa.Column("json", Json()),
    )
    row = {
        "colour": Colour.BLUE,
        "amount": None,
        "raw": b"\x00\xff",
        "moment": MOMENT,
        "json": {"big": 2**65},
    }

    def work(tx: sa.Connection) -> tuple[Any, Any]:
        table.create(tx)
        Prepared(sa.insert(table)).run(tx, row)
        query = sa.select(table, sa.func.count().over().label("count"), table.c.json["big"])
        return Prepared(query).first(tx), tx.execute(query).one()

    prepared, by_core = await db.write(work)
    assert tuple(prepared) == tuple(by_core)
    assert prepared.colour is Colour.BLUE
    assert prepared.moment == MOMENT
    assert (prepared.json, prepared.count) == ({"big": 2**65}, 1)


async def test_json_null_and_sql_null_differ_as_by_core(db: Database) -> None:
    table = sa.Table("nulls", sa.MetaData(), sa.Column("n", sa.Integer), sa.Column("json", Json()))

    def work(tx: sa.Connection) -> Any:
        table.create(tx)
        add = Prepared(sa.insert(table))
        add.run_many(tx, [{"n": 1, "json": None}, {"n": 2, "json": {"inner": None}}])
        add.run(tx, {"n": 3})
        found = sa.select(table.c.n).where(table.c.json.is_(None)).order_by(table.c.n)
        return Prepared(found).scalars(tx), tx.scalars(found).all()

    prepared, by_core = await db.write(work)
    assert prepared == by_core == [1, 3]


async def test_the_names_given_choose_the_columns(db: Database) -> None:
    table = sa.Table(
        "chosen",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("a", sa.Integer, server_default="7"),
        sa.Column("b", sa.String(9)),
    )
    add = Prepared(sa.insert(table))
    change = Prepared(sa.update(table).where(table.c.id == sa.bindparam("its_id")))

    def work(tx: sa.Connection) -> list[Any]:
        table.create(tx)
        add.run(tx, {"id": 1})
        add.run(tx, {"id": 2, "a": 8})
        add.run(tx, {"b": "x", "id": 3, "a": None})
        assert change.run(tx, {"its_id": 1, "b": "y"}) == 1
        assert change.run(tx, {"its_id": 2, "b": "z", "a": 9}) == 1
        assert change.run(tx, {"its_id": 4, "b": "z"}) == 0
        return Prepared(sa.select(table).order_by(table.c.id)).all(tx)

    assert plain(await db.write(work)) == [(1, 7, "y"), (2, 9, "z"), (3, None, "x")]


async def test_constants_lists_and_returning(db: Database) -> None:
    given = Prepared(
        sa.select(project.c.name)
        .where(
            project.c.id.in_(sa.bindparam("ids", expanding=True)),
            project.c.name.in_(("a", "b", "c")),
            project.c.created_at <= sa.bindparam("now", type_=Utc()),
        )
        .order_by(project.c.name)
        .limit(2)
    )
    rename = Prepared(
        sa.update(project)
        .where(project.c.id == sa.bindparam("its_id"))
        .values(name=project.c.name + "!", created_at=database_now(sa.bindparam("later")))
        .returning(project.c.name, project.c.created_at)
    )

    def work(tx: sa.Connection) -> Any:
        rows = [{"id": name, "name": name, "created_at": MOMENT} for name in "abcd"]
        Prepared(sa.insert(project)).run_many(tx, rows)
        found = [
            given.scalars(tx, {"ids": ids, "now": MOMENT})
            for ids in ([], ["a"], ["b", "c", "d"], ["d", "a"], ["a", "b", "c"])
        ]
        return (
            found,
            rename.first(tx, {"its_id": "a", "later": 3600.0}),
            rename.first(tx, {"its_id": "none", "later": 0.0}),
        )

    found, renamed, nothing = await db.write(work)
    assert found == [[], ["a"], ["b", "c"], ["a"], ["a", "b"]]
    assert renamed.name == "a!"
    assert renamed.created_at > datetime.now(UTC) + timedelta(minutes=59)
    assert nothing is None


async def test_scalar_and_first_of_no_row_are_none(db: Database) -> None:
    query, nobody = Prepared(sa.select(project.c.id).where(project.c.id == _ID)), {"id": "x"}

    def work(tx: sa.Connection) -> tuple[Any, ...]:
        query.run_many(tx, [])
        return query.scalar(tx, nobody), query.first(tx, nobody), query.all(tx, nobody)

    assert await db.read(work) == (None, None, [])


async def test_a_missing_value_is_an_error(db: Database) -> None:
    one = Prepared(sa.select(project).where(project.c.id == _ID))
    many = Prepared(sa.select(project).where(project.c.id.in_(sa.bindparam("ids", expanding=True))))
    for query in (one, many):
        with pytest.raises(sa.exc.InvalidRequestError, match="A value is required"):
            await db.read(query.all, {"other": "x"})


def _twice(tx: sa.Connection, execute: Callable[[sa.Connection, Any, Any], object]) -> None:
    row = {"id": "prj_1", "name": "canary", "created_at": MOMENT}
    for _ in range(2):
        execute(tx, sa.insert(project), row)


def _without_a_name(tx: sa.Connection, execute: Callable[..., object]) -> None:
    execute(tx, sa.insert(project), {"id": "prj_1", "created_at": MOMENT})


def _of_no_project(tx: sa.Connection, execute: Callable[..., object]) -> None:
    key = {"id": "k", "project_id": "canary", "name": "", "shown": "", "hash": ""}
    table = metadata.tables["api_key"]
    execute(tx, sa.insert(table), {**key, "scopes": [], "created_at": MOMENT})


def _naive(tx: sa.Connection, execute: Callable[..., object]) -> None:
    row = {"id": "prj_1", "name": "canary", "created_at": MOMENT.replace(tzinfo=None)}
    execute(tx, sa.insert(project), row)


def _of_another_type(tx: sa.Connection, execute: Callable[..., object]) -> None:
    query = sa.select(project).where(project.c.id == _ID)
    execute(tx, query, {"id": NOTHING_KNOWN})


def _of_no_table(tx: sa.Connection, execute: Callable[..., object]) -> None:
    execute(tx, sa.select(sa.column("x")).select_from(sa.table("nothing_of_this_name")), {})


def _unknown_column(tx: sa.Connection, execute: Callable[..., object]) -> None:
    execute(tx, sa.insert(project), {"id": "x", "nothing": "canary"})


def _append_only(tx: sa.Connection, execute: Callable[..., object]) -> None:
    execute(tx, sa.delete(metadata.tables["ledger_line"]), {})


ERRORS = (
    *(_twice, _without_a_name, _of_no_project, _naive, _of_another_type, _of_no_table),
    *(_unknown_column, _append_only),
)


def _many(tx: sa.Connection, statement: Any, values: Any) -> None:
    Prepared(statement).run_many(tx, [values, values])


@pytest.mark.parametrize("broken", ERRORS, ids=lambda one: one.__name__.strip("_"))
async def test_errors_are_those_of_core(db: Database, broken: Any) -> None:
    def by_core(tx: sa.Connection, statement: Any, values: Any) -> Any:
        return tx.execute(statement, values)

    def prepared(tx: sa.Connection, statement: Any, values: Any) -> Any:
        return Prepared(statement).run(tx, values)

    if broken is _append_only:  # the databases refuse it row by row, and PostgreSQL at once
        from tests.support.scenario import Scenario  # noqa: PLC0415

        await Scenario.create(db)
    caught = []
    for execute in (by_core, prepared):
        with pytest.raises(sa.exc.SQLAlchemyError) as error:
            await db.write(broken, execute)
        caught.append(error.value)
    core, ours = caught
    assert type(ours) is type(core)
    assert str(getattr(ours, "orig", "")) == str(getattr(core, "orig", ""))
    assert getattr(getattr(ours, "orig", None), "sqlstate", None) == getattr(
        getattr(core, "orig", None), "sqlstate", None
    )
    assert "canary" not in str(ours)
    if broken is _twice:
        with pytest.raises(sa.exc.IntegrityError):
            await db.write(_twice, _many)
    assert await db.read(lambda tx: Prepared(sa.select(project)).all(tx)) == [] or (
        broken is _append_only
    )


async def test_a_failure_of_the_database_raises_database_unavailable(db: Database) -> None:
    add = Prepared(sa.insert(project))

    def hurt(tx: sa.Connection) -> None:
        if tx.dialect.name == "sqlite":
            tx.exec_driver_sql("PRAGMA max_page_count=1")
        else:
            Prepared(sa.text("SELECT pg_terminate_backend(pg_backend_pid())")).all(tx)
        for n in range(1000):
            name = f"lost {n} " + "x" * 80
            add.run(tx, {"id": f"p{n}", "name": name, "created_at": MOMENT})

    with pytest.raises(DatabaseUnavailable):
        await db.write(hurt)
    if not db.is_shared:
        await db.write(lambda tx: tx.exec_driver_sql("PRAGMA max_page_count=1000000") and None)
    await db.write(lambda tx: add.run(tx, {"id": "p", "name": "kept", "created_at": MOMENT}))
    assert await db.read(lambda tx: Prepared(sa.select(project.c.name)).scalars(tx)) == ["kept"]


async def test_a_statement_is_prepared_again_after_a_change_of_its_table(db: Database) -> None:
    """PostgreSQL refuses a statement prepared before; the next try prepares it again."""
    query = Prepared(sa.text("SELECT * FROM changing"))

    def execute(tx: sa.Connection, sql: str) -> None:
        tx.execute(sa.text(sql))

    await db.write(execute, "CREATE TABLE changing (a INTEGER)")
    await db.write(execute, "INSERT INTO changing VALUES (1)")
    for _ in range(2):
        assert await db.read(lambda tx: plain(query.all(tx))) == [(1,)]
    await db.write(execute, "ALTER TABLE changing ADD COLUMN b INTEGER")
    if db.is_shared:
        driver = await db.driver_connection()
        await driver.execute("ALTER TABLE changing ADD COLUMN c INTEGER")
        await driver.close()
        with pytest.raises(sa.exc.DBAPIError):
            await db.read(query.all)
        assert await db.read(lambda tx: plain(query.all(tx))) == [(1, None, None)]


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.asyncpg.dialect()])
def test_an_insert_returns_no_server_defaults(dialect: Any) -> None:
    """Without `inline` Core adds RETURNING for defaults that the server fills in."""
    statement = Prepared(sa.insert(project))._statement
    assert "RETURNING" not in str(statement.compile(dialect=dialect, column_keys=["id", "name"]))
