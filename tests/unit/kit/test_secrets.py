import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.secrets import KEY_PREFIX, hash_key, is_well_formed, mint_key

LENGTH = len(KEY_PREFIX) + 43 + 6


def test_a_minted_key_is_well_formed_and_its_own() -> None:
    keys = {mint_key() for _ in range(200)}
    assert len(keys) == 200
    assert all(is_well_formed(key) and len(key) == LENGTH for key in keys)


@given(st.integers(min_value=len(KEY_PREFIX), max_value=LENGTH - 1), st.sampled_from(string.digits))
def test_one_changed_letter_is_noticed(place: int, letter: str) -> None:
    key = mint_key()
    forged = key[:place] + letter + key[place + 1 :]
    assert is_well_formed(forged) == (forged == key)


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key[:-1],
        lambda key: key + "0",
        lambda key: key + "\n",
        lambda key: " " + key,
        lambda key: key.removeprefix(KEY_PREFIX),
        lambda key: key.replace("gw_live_", "gw_test_"),
        lambda key: key.replace("gw_live_", "GW_LIVE_"),
        lambda key: KEY_PREFIX + key,
        lambda key: key[:-1] + "\N{FULLWIDTH DIGIT ONE}",
        lambda _: KEY_PREFIX + "\N{ARABIC-INDIC DIGIT ONE}" * 49,
        lambda _: KEY_PREFIX + "0" * 49,
        lambda _: "",
        lambda _: KEY_PREFIX,
    ],
)
def test_what_is_no_key_is_told_without_a_look_up(change) -> None:  # noqa: ANN001
    assert not is_well_formed(change(mint_key()))


@given(st.text())
def test_any_text_may_be_asked_about(text: str) -> None:
    assert not is_well_formed(text)
    assert not is_well_formed(KEY_PREFIX + text)


def test_a_hash_depends_on_key_and_pepper_and_shows_neither() -> None:
    key = mint_key()
    hashed = hash_key(b"pepper", key)
    assert hashed == hash_key(b"pepper", key)
    assert hashed not in {hash_key(b"other", key), hash_key(b"pepper", mint_key())}
    assert len(hashed) == 64
    assert key not in hashed
