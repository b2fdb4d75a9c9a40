"""Tokens that open the event stream of one job, for readers that cannot send a header."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from app.kit.signed_token import EXPIRY_PATTERN, SIGNATURE_PATTERN, TokenSigner

TOKEN_MAX_LENGTH = 80
PURPOSE = "asr-gateway stream token 1"
_TOKEN = re.compile(rf"st_({EXPIRY_PATTERN})_({SIGNATURE_PATTERN})", re.ASCII)


def make_stream_token(
    pepper: bytes, job_id: str, *, now: datetime, seconds: int
) -> tuple[str, datetime]:
    """Return a token for a job's events, and when it expires."""
    expires = int((now + timedelta(seconds=seconds)).timestamp())
    signature = TokenSigner(PURPOSE, [pepper]).sign(job_id, expires)
    return f"st_{expires}_{signature}", datetime.fromtimestamp(expires, UTC)


def is_valid_stream_token(
    token: str, job_id: str, *, peppers: Sequence[bytes], now: datetime
) -> bool:
    """Tell whether a token opens this job's events now."""
    found = _TOKEN.fullmatch(token)
    if found is None:
        return False
    return TokenSigner(PURPOSE, peppers).is_valid(job_id, int(found[1]), found[2], now=now)
