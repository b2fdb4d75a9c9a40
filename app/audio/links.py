"""URLs under which a provider can read one audio for a limited time, without a key.

The URL is the credential: it contains the audio id and the expiry, signed so that neither can be
changed. It becomes invalid at once when the audio is deleted.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from app.kit.ids import is_id

PURPOSE = b"asr-gateway blob links 1"
_TOKEN = re.compile(
    r"(aud_[0-9a-f]{32})-(\d{1,12})-([A-Za-z0-9_-]{43})\.([a-z0-9]{1,10})", re.ASCII
)


class SignedLinks:
    """Makes and reads signed URLs with `secrets`. The first one signs; all of them are accepted."""

    def __init__(self, base_url: str, secrets: Sequence[bytes]) -> None:
        self._base_url = base_url.rstrip("/")
        self._keys = [hmac.digest(secret, PURPOSE, hashlib.sha256) for secret in secrets]

    @property
    def is_public(self) -> bool:
        """Whether the gateway has a public address to make URLs with."""
        return bool(self._base_url)

    def url(self, audio_id: str, form: str, until: datetime) -> str:
        """Return the URL of an audio of this format, valid until then."""
        ends = str(int(until.timestamp()))
        said = f"{audio_id}-{ends}"
        token = f"{said}-{_signed(self._keys[0], said, form)}.{form}"
        return f"{self._base_url}/v1/blobs/{token}"

    def read(self, token: str, now: datetime) -> str | None:
        """Return the id of the audio that a token opens, or None for an invalid token."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        audio_id, ends, given, form = match.groups()
        said = f"{audio_id}-{ends}"
        # All keys are tried, so that the time taken says nothing of which one fits.
        fits = [hmac.compare_digest(_signed(key, said, form), given) for key in self._keys]
        is_good = any(fits) and now < datetime.fromtimestamp(int(ends), UTC)
        return audio_id if is_good and is_id("aud", audio_id) else None


def _signed(key: bytes, said: str, form: str) -> str:
    digest = hmac.digest(key, f"{said}.{form}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
