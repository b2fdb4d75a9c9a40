"""JSON that the standard library reads, also for values that orjson does not write.

Covers: app.kit.json_bytes
"""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from app.kit.json_bytes import json_bytes


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, "\u4f60"]},
        {"beyond 64 bits": 2**70, "below": -(2**70)},
        {"half a pair": "\ud800"},
        "text",
    ],
)
def test_the_standard_library_reads_the_same_back(value: Any) -> None:
    assert json.loads(json_bytes(value)) == value


def test_it_is_compact_utf_8() -> None:
    assert json_bytes({"a": "\u4f60", 1: 2}) == b'{"a":"\xe4\xbd\xa0","1":2}'


@pytest.mark.parametrize("value", [{"a": 2**70, "b": object()}, {"b": object()}])
def test_other_types_need_a_default(value: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        json_bytes(value)
    assert json.loads(json_bytes(value, default=lambda _: "shown"))["b"] == "shown"


def test_not_a_number_is_null() -> None:
    assert json_bytes([float("nan"), datetime(2026, 1, 1, tzinfo=UTC)], default=str).startswith(
        b"[null,"
    )
