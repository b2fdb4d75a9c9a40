"""Tests of app.db.schema.

Covers: app.db.schema, app.kit.ids
"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.db.schema import ID_SIZE
from app.kit.ids import id_pattern, is_id, new_id


def test_ids_sort_by_the_time_they_were_made() -> None:
    made = [new_id("tr") for _ in range(5_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("prefix", ["tr", "aud", "key", "prj", "call", "ldg", "prc", "req"])
def test_an_id_has_its_own_form_and_fits_its_column(prefix: str) -> None:
    made = new_id(prefix)
    assert is_id(prefix, made)
    assert re.fullmatch(id_pattern(prefix), made)
    assert len(made) <= ID_SIZE


@pytest.mark.parametrize("form", ["{}\n", " {}", "{}0", "x{}", "TR{}"])
def test_invalid_ids_are_rejected(form: str) -> None:
    assert not is_id("tr", form.format(new_id("tr")))
    assert not is_id("tr", new_id("aud"))


@given(st.text())
def test_any_text_is_a_valid_argument(text: str) -> None:
    assert is_id("tr", text) == (re.fullmatch(r"tr_[0-9a-f]{32}", text) is not None)
