"""Signatures with an expiry, for tokens that are not stored and cannot be revoked.

The key of a signature is derived from a secret for one purpose, so a signature for one purpose is
not valid for another.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

SIGNATURE_PATTERN = "[A-Za-z0-9_-]{43}"
EXPIRY_PATTERN = r"\d{1,12}"  # seconds since 1970


class TokenSigner:
    """Signs with the first secret and accepts the signatures of all, which allows rotation."""

    def __init__(self, purpose: str, secrets: Sequence[bytes]) -> None:
        self._keys = [hmac.digest(secret, purpose.encode(), hashlib.sha256) for secret in secrets]

    def sign(self, text: str, expires: int) -> str:
        """Return the signature of a text that is valid until `expires`."""
        return _signature(self._keys[0], text, expires)

    def is_valid(self, text: str, expires: int, signature: str, *, now: datetime) -> bool:
        """Tell whether the signature is one of the text and has not expired."""
        # All keys are compared, so that the time taken does not tell which one matches.
        matches = [
            hmac.compare_digest(_signature(key, text, expires), signature) for key in self._keys
        ]
        return any(matches) and now.timestamp() < expires


def _signature(key: bytes, text: str, expires: int) -> str:
    digest = hmac.digest(key, f"{text} {expires}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
