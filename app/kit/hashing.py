"""Content hashes."""

import hashlib


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of the data as 64 hex digits. Takes about 1 ms per MB."""
    return hashlib.sha256(data).hexdigest()
