"""Clocks as values: code that needs the current time gets a clock, so that tests can set it."""

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the current moment as an aware UTC datetime."""
    return datetime.now(UTC)


def to_rfc3339(moment: datetime) -> str:
    """Render a moment as RFC 3339 in UTC with milliseconds, e.g. `2026-11-21T05:28:00.000Z`."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def parse_http_date(text: str) -> datetime | None:
    """Parse a date of an HTTP header, as UTC if it names no zone. None if it is not a date."""
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
