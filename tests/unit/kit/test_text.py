"""Texts that cannot be stored are recognised.

Covers: app.kit.text
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.text import is_storable


@pytest.mark.parametrize("text", ["", "plain", "Ünïcode \U0001f600 漢字", "\x01\x7f\u2028\ufeff"])
def test_other_text_is_storable(text: str) -> None:
    assert is_storable(text)


@pytest.mark.parametrize("text", ["\x00", "a\x00", "ü\x00", "\ud800", "end \udfff", "ü\udc00b"])
def test_nul_and_half_a_surrogate_pair_are_not(text: str) -> None:
    assert not is_storable(text)


@given(st.text(st.characters(exclude_categories=[])))
def test_a_storable_text_is_utf8_without_nul(text: str) -> None:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        assert not is_storable(text)
    else:
        assert is_storable(text) is (b"\x00" not in encoded)


def test_a_pair_that_json_spells_in_halves_is_one_character() -> None:
    assert is_storable(json.loads('"\\ud83d\\ude00"'))
    assert not is_storable(json.loads('"\\ud83d"'))
