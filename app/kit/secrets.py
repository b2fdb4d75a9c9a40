"""Bearer keys: their form, their checksum, and the hash under which they are stored.

The form follows GitHub's tokens: a prefix that scanners know, 32 random bytes in base62, and
a CRC-32 so that a leaked key is recognized without a look-up. Keys have 256 bits of
entropy, so a fast keyed hash is the right one (a slow one is for passwords).
"""

import hashlib
import hmac
import os
import secrets
import string
import zlib
from contextlib import suppress
from pathlib import Path

KEY_PREFIX = "gw_live_"
PREFIX_CHARACTERS = 12
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_BYTES = 32
_BODY_LENGTH = 43  # base62 digits that hold 32 bytes
_CHECK_LENGTH = 6  # base62 digits that hold 32 bits


def mint_key() -> str:
    """Make a new key. It is shown once and never stored."""
    body = _base62(int.from_bytes(secrets.token_bytes(_RANDOM_BYTES)), _BODY_LENGTH)
    return KEY_PREFIX + body + _checksum(body)


def is_well_formed(key: str) -> bool:
    """Return whether the text is a key of the gateway by form and checksum, without a look-up."""
    body = key.removeprefix(KEY_PREFIX)
    if not key.isascii() or body == key or len(body) != _BODY_LENGTH + _CHECK_LENGTH:
        return False
    return hmac.compare_digest(_checksum(body[:_BODY_LENGTH]), body[_BODY_LENGTH:])


def hash_key(pepper: bytes, key: str) -> str:
    """Return HMAC-SHA-256 of the key under the pepper, in hex."""
    return hmac.digest(pepper, key.encode(), hashlib.sha256).hex()


def load_or_create_secret(path: Path) -> str:
    """Return the secret in a file, created at its first use. Of two creators the first one wins.

    Blocks. The file is private and is written whole or not at all.
    """
    if not path.exists():
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(_RANDOM_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text()


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, rest = divmod(number, 62)
        digits.append(_ALPHABET[rest])
    return "".join(reversed(digits))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_LENGTH)
