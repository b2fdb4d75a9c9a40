"""Tests of app.kit.secrets.

Covers: app.kit.secrets
"""

import stat
import string
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.secrets import KEY_PREFIX, hash_key, is_well_formed, load_or_create_secret, mint_key

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
def test_invalid_keys_are_rejected_without_a_lookup(change) -> None:  # noqa: ANN001
    assert not is_well_formed(change(mint_key()))


@given(st.text())
def test_any_text_is_a_valid_argument(text: str) -> None:
    assert not is_well_formed(text)
    assert not is_well_formed(KEY_PREFIX + text)


def test_a_hash_depends_on_key_and_pepper_and_shows_neither() -> None:
    key = mint_key()
    hashed = hash_key(b"pepper", key)
    assert hashed == hash_key(b"pepper", key)
    assert hashed not in {hash_key(b"other", key), hash_key(b"pepper", mint_key())}
    assert len(hashed) == 64
    assert key not in hashed


MAKE = """
import sys
from pathlib import Path
from app.kit.secrets import load_or_create_secret
sys.stdin.readline()
print(load_or_create_secret(Path(sys.argv[1])))
"""


def test_load_or_create_secret_are_made_once_kept_and_private(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    words = load_or_create_secret(file)
    assert len(words) == 64
    assert load_or_create_secret(file) == words == file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_or_create_secret(tmp_path / "other") != words
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "secret"]


def test_processes_that_make_load_or_create_secret_at_once_agree(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKE, str(tmp_path / "secret")]
    with ExitStack() as stack:
        makers = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(3)
        ]
        said = [maker.communicate("\n", timeout=60)[0] for maker in makers]
    assert len(set(said)) == 1
    assert len(said[0].strip()) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_threads_that_make_load_or_create_secret_at_once_agree(tmp_path: Path) -> None:
    for n in range(20):
        barrier = threading.Barrier(8)

        def make(file: Path, start: threading.Barrier) -> str:
            start.wait()
            return load_or_create_secret(file)

        with ThreadPoolExecutor(8) as pool:
            said = list(pool.map(make, [tmp_path / str(n)] * 8, [barrier] * 8))
        assert len(set(said)) == 1
    assert len(list(tmp_path.iterdir())) == 20
