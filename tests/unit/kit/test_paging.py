"""Tests of app.kit.paging.

Covers: app.kit.paging
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.ids import new_id
from app.kit.paging import CURSOR_MAX_LENGTH, decode_cursor, encode_cursor


def test_a_cursor_is_decoded_to_its_id() -> None:
    last = new_id("tr")
    cursor = encode_cursor(last)
    assert decode_cursor(cursor) == last
    assert last not in cursor
    assert len(cursor) <= CURSOR_MAX_LENGTH


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_every_ascii_text_survives(text: str) -> None:
    assert decode_cursor(encode_cursor(text)) == text


@given(st.text())
def test_a_made_up_cursor_is_an_id_or_a_value_error(cursor: str) -> None:
    try:
        assert isinstance(decode_cursor(cursor), str)
    except ValueError as error:
        assert type(error) is ValueError  # noqa: PT017 - either way is right


@pytest.mark.parametrize("cursor", ["a", "%%%%", "YWJj=x", "_____w", "é", "\x00"])
def test_random_text_is_no_cursor(cursor: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        decode_cursor(cursor)
