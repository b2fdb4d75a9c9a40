"""JSON columns return the stored values, including integers of any size.

Covers: app.db.json_columns, app.db.schema
"""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from app.db.database import Database
from app.db.json_columns import decode_json, encode_json
from app.db.schema import Json

pytestmark = pytest.mark.anyio

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
)
VALUES: list[Any] = [
    {"tokens": 2**64, "seconds": 12.5},
    [2**64 - 1, -(2**63), 10**40],
    {"text": "Zeilen\u2028und \\ \" ' \U0001f600"},
    {"nested": {"deep": [[], {}, None, True]}},
    1e20,
    0.1,
]


@given(values)
def test_a_value_comes_back_with_its_types(value: Any) -> None:
    back = decode_json(encode_json(value))
    assert back == value == json.loads(encode_json(value))
    assert repr(back) == repr(json.loads(json.dumps(value)))


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_a_value_comes_back_from_the_database(db: Database, value: Any) -> None:
    table = sa.Table("values_of_json", sa.MetaData(), sa.Column("json", Json()))

    def store(tx: sa.Connection) -> Any:
        table.create(tx)
        tx.execute(sa.insert(table).values(json=value))
        return tx.scalar(sa.select(table.c.json))

    assert await db.write(store) == value


async def test_sql_reads_inside_of_a_value_that_orjson_cannot_hold(db: Database) -> None:
    table = sa.Table("read_inside", sa.MetaData(), sa.Column("json", Json()))

    def store(tx: sa.Connection) -> Any:
        table.create(tx)
        tx.execute(sa.insert(table).values(json={"big": 2**70, "kind": "direct"}))
        return tx.scalar(sa.select(table.c.json["kind"].as_string()))

    assert await db.write(store) == "direct"


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes"], ids=["object", "set", "bytes"])
def test_values_that_are_not_json_are_rejected(value: Any) -> None:
    with pytest.raises(TypeError):
        encode_json(value)
