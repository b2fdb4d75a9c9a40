"""Links under which one audio can be read for a while without a key.

The link is the credential. It names the audio, its format and an expiry, all of them signed.
Deleting the audio ends it at once.
"""

import re
from collections.abc import Sequence
from datetime import datetime

from app.kit.signed_token import EXPIRY_PATTERN, SIGNATURE_PATTERN, TokenSigner

PURPOSE = "asr-gateway blob links 1"
_TOKEN = re.compile(
    rf"(aud_[0-9a-f]{{32}})-({EXPIRY_PATTERN})-({SIGNATURE_PATTERN})\.([a-z0-9]{{1,10}})", re.ASCII
)


class SignedLinks:
    """Makes and reads links. `secrets` are the gateway's, the newest first."""

    def __init__(self, base_url: str, secrets: Sequence[bytes]) -> None:
        self._base_url = base_url.rstrip("/")
        self._signer = TokenSigner(PURPOSE, secrets)

    def url(self, audio_id: str, file_type: str, until: datetime) -> str:
        """Return the link of an audio, valid until then; it ends in `.` and the file type."""
        expires = int(until.timestamp())
        signature = self._signer.sign(f"{audio_id}.{file_type}", expires)
        return f"{self._base_url}/v1/blobs/{audio_id}-{expires}-{signature}.{file_type}"

    def read(self, token: str, now: datetime) -> str | None:
        """Return the id of the audio that a token opens now, or None."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        audio_id, expires, signature, file_type = match.groups()
        text = f"{audio_id}.{file_type}"
        is_valid = self._signer.is_valid(text, int(expires), signature, now=now)
        return audio_id if is_valid else None
