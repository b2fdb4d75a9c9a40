"""Time as a value: whoever needs "now" is handed a clock, so tests can turn it by hand."""

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
    """Read a moment as HTTP headers have it, UTC where it names no zone; None for what is none."""
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
