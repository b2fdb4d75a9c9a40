"""A signature is valid only for its text, expiry, purpose and secret.

Covers: app.access.stream_tokens, app.audio.storage.links, app.kit.signed_token
"""

import re
from datetime import UTC, datetime, timedelta

import pytest

from app.access.stream_tokens import TOKEN_MAX_LENGTH, is_valid_stream_token, make_stream_token
from app.audio.storage.links import SignedLinks
from app.kit.signed_token import SIGNATURE_PATTERN, TokenSigner

NOW = datetime(2026, 11, 21, 5, 28, tzinfo=UTC)
EXPIRES = int(NOW.timestamp()) + 60
JOB = "tr_" + "0" * 32
AUDIO = "aud_" + "0" * 32
NEW, OLD = b"new secret", b"old secret"


def test_a_signature_holds_until_it_expires() -> None:
    signer = TokenSigner("purpose", [NEW])
    signature = signer.sign("text", EXPIRES)
    assert re.fullmatch(SIGNATURE_PATTERN, signature)
    assert signer.is_valid("text", EXPIRES, signature, now=NOW)
    last = NOW + timedelta(seconds=60)
    assert signer.is_valid("text", EXPIRES, signature, now=last - timedelta(microseconds=1))
    assert not signer.is_valid("text", EXPIRES, signature, now=last)


@pytest.mark.parametrize(
    ("purpose", "secret", "text", "expires"),
    [
        ("other", NEW, "text", EXPIRES),
        ("purpose", OLD, "text", EXPIRES),
        ("purpose", NEW, "texts", EXPIRES),
        ("purpose", NEW, "text", EXPIRES + 1),
    ],
)
def test_a_signature_of_anything_else_does_not_hold(
    purpose: str, secret: bytes, text: str, expires: int
) -> None:
    signature = TokenSigner(purpose, [secret]).sign(text, expires)
    assert not TokenSigner("purpose", [NEW]).is_valid("text", EXPIRES, signature, now=NOW)


def test_a_secret_can_be_rotated() -> None:
    before, between = TokenSigner("p", [OLD]), TokenSigner("p", [NEW, OLD])
    assert between.is_valid("t", EXPIRES, before.sign("t", EXPIRES), now=NOW)
    after = TokenSigner("p", [NEW])
    assert after.is_valid("t", EXPIRES, between.sign("t", EXPIRES), now=NOW)
    assert not after.is_valid("t", EXPIRES, before.sign("t", EXPIRES), now=NOW)


def test_a_stream_token_opens_its_own_job() -> None:
    token, expires = make_stream_token(NEW, JOB, now=NOW, seconds=60)
    assert (len(token) <= TOKEN_MAX_LENGTH, expires) == (True, NOW + timedelta(seconds=60))
    assert is_valid_stream_token(token, JOB, peppers=[NEW, OLD], now=NOW)
    assert not is_valid_stream_token(token, JOB, peppers=[NEW], now=expires)
    assert not is_valid_stream_token(token, "tr_" + "1" * 32, peppers=[NEW], now=NOW)
    for forged in (token[:-1], token + "A", token.replace("st_", "st-"), token[:-1] + "é", ""):
        assert not is_valid_stream_token(forged, JOB, peppers=[NEW], now=NOW), forged


def test_a_link_opens_its_own_audio_and_keeps_its_file_type() -> None:
    links = SignedLinks("https://gateway.example/", [NEW])
    url = links.url(AUDIO, "flac", NOW + timedelta(seconds=60))
    assert url.startswith(f"https://gateway.example/v1/blobs/{AUDIO}-{EXPIRES}-")
    assert url.endswith(".flac")
    token = url.rpartition("/")[2]
    assert links.read(token, NOW) == AUDIO
    assert links.read(token, NOW + timedelta(seconds=60)) is None
    for forged in (
        token.replace(".flac", ".wav"),
        token.replace("aud_0", "aud_1"),
        token.replace(str(EXPIRES), str(EXPIRES + 1)),
        token.removesuffix(".flac"),
    ):
        assert links.read(forged, NOW) is None, forged
