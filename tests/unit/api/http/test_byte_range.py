"""A range is served exactly, rejected, or ignored in favour of the whole file.

Covers: app.api.http.byte_range
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.http.byte_range import parse_range
from app.errors import RangeNotSatisfiable

sizes = st.integers(0, 10_000)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-5", (2, 6)),
        ("bytes=7-", (7, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=5-99", (5, 10)),
        ("Bytes=1-2", (1, 3)),
        ("bytes= 1-2 ", (1, 3)),
        (None, None),
        ("", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=5-2", None),
        ("bytes=0-1,3-4", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
        ("bytes=+1-2", None),
        ("bytes=٣-٤", None),
        ("bytes=" + "9" * 5000 + "-", None),
    ],
)
def test_ten_bytes(header: str | None, wanted: tuple[int, int] | None) -> None:
    assert parse_range(header, 10) == wanted


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=999999-"])
def test_a_range_without_bytes_is_refused_with_the_size(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as refusal:
        parse_range(header, 10)
    assert refusal.value.members == {"size": 10}


@given(sizes, st.text())
def test_any_text_is_answered_within_the_file(size: int, header: str) -> None:
    try:
        found = parse_range(f"bytes={header}", size)
    except RangeNotSatisfiable:
        return
    assert found is None or 0 <= found[0] < found[1] <= size


@given(sizes, st.integers(0, 12_000), st.integers(0, 12_000))
def test_a_closed_range_is_what_slicing_gives(size: int, first: int, last: int) -> None:
    whole = list(range(size))
    try:
        found = parse_range(f"bytes={first}-{last}", size)
    except RangeNotSatisfiable:
        assert whole[first : last + 1] == []
        return
    if last < first:
        assert found is None
    else:
        assert found is not None
        assert whole[slice(*found)] == whole[first : last + 1]


@given(sizes, st.integers(1, 12_000))
def test_a_suffix_is_the_end_of_the_file(size: int, length: int) -> None:
    whole = list(range(size))
    try:
        found = parse_range(f"bytes=-{length}", size)
    except RangeNotSatisfiable:
        assert size == 0
        return
    assert found is not None
    assert whole[slice(*found)] == whole[-length:]
