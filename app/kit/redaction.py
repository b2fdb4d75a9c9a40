"""Masks secrets in log events."""

import re
from collections.abc import Mapping
from typing import Any

MASK = "****"
_SECRET_FIELDS = frozenset(
    {
        "authorization",
        "key",
        "api_key",
        "password",
        "pepper",
        "secret",
        "text",
        "token",
        "transcript",
    }
)
_SECRET_TEXT = re.compile(
    r"(?:\b(?:sk|gw|st|whsec)[-_][A-Za-z0-9_-]{8,})"
    r"|(?:(?<=://)[^/\s:@]*:[^/\s@]+(?=@))"
    r"|(?:(?<=[?&])(?:[a-z-]*signature|[a-z-]*token|sig)=[^&\s]+)"
    r"|(?:\bbearer\s+[^\s\"',]+)",
    re.IGNORECASE,
)
# Ids of requests and jobs, and texts without any of the characters that every secret has. The lines
# of each request consist of these, and to search one for secrets takes up to 10 us.
_WITHOUT_SECRET = re.compile(r"(?:req|tr)_[0-9a-f]{32}|[^-_:=\s]*")


def redact_text(text: str) -> str:
    """Mask parts of a text that look like a key, a password in a URL or a signature."""
    return text if _WITHOUT_SECRET.fullmatch(text) else _SECRET_TEXT.sub(MASK, text)


def redacted(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy: fields that hold secrets by their name are masked, other texts searched."""
    return {
        name: MASK
        if name in _SECRET_FIELDS
        else redact_text(value)
        if isinstance(value, str)
        else _redact_value(value)
        for name, value in fields.items()
    }


def _redact_value(value: Any) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return redacted(value)
    return [_redact_value(one) for one in value] if isinstance(value, list | tuple) else value
