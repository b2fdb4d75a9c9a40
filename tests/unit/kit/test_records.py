"""Tests of the decorator for values of requests.

Covers: app.kit.records
"""

from dataclasses import field, replace

import pytest

from app.kit.records import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named(Point):
    name: str


def test_values_are_equal_and_have_a_hash() -> None:
    assert Point(1, 2) == Point(1, 3) != Point(2, 2)
    assert {Point(1): "a"}[Point(1, 9)] == "a"
    assert repr(Point(1)) == "Point(x=1, y=0)"


def test_a_value_can_be_changed_only_as_a_copy() -> None:
    moved = replace(Named(1, name="a"), x=5)
    assert moved == Named(5, name="a")
    with pytest.raises(AttributeError):
        moved.z = 1  # type: ignore[attr-defined]
