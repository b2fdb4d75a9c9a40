"""Tokens that open one job's event stream, for readers that cannot send a header.

A token is its expiry and a signature of job and expiry. No token is stored, and none can be
revoked before it expires. The signing key is derived from the pepper of the key hashes, for this
use only.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

TOKEN_MAX_LENGTH = 80
_LABEL = b"asr-gateway stream token 1"
_FORM = re.compile(r"st_(\d{1,12})_([A-Za-z0-9_-]{43})", re.ASCII)


def make_token(pepper: bytes, job_id: str, *, now: datetime, seconds: int) -> tuple[str, datetime]:
    """Return a token for a job's events, and when it expires."""
    expires = int((now + timedelta(seconds=seconds)).timestamp())
    return f"st_{expires}_{_signature(pepper, job_id, expires)}", datetime.fromtimestamp(
        expires, UTC
    )


def opens(token: str, job_id: str, *, peppers: Sequence[bytes], now: datetime) -> bool:
    """Return whether a token opens this job's events now."""
    found = _FORM.fullmatch(token)
    if found is None or int(found[1]) <= now.timestamp():
        return False
    expires = int(found[1])
    # All are compared, so that the time it takes says nothing of which one fits.
    fits = [
        hmac.compare_digest(_signature(pepper, job_id, expires), found[2]) for pepper in peppers
    ]
    return any(fits)


def _signature(pepper: bytes, job_id: str, expires: int) -> str:
    key = hmac.digest(pepper, _LABEL, hashlib.sha256)
    signed = hmac.digest(key, f"{job_id} {expires}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(signed).decode().rstrip("=")
