"""Tests of app.kit.clock.

Covers: app.kit.clock
"""

from datetime import UTC, datetime, timedelta, timezone

from app.kit.clock import to_rfc3339, utc_now


def test_now_is_aware() -> None:
    assert utc_now().utcoffset() == timedelta(0)


def test_a_moment_is_written_in_utc_with_milliseconds() -> None:
    berlin = timezone(timedelta(hours=1))
    assert to_rfc3339(datetime(2026, 11, 21, 6, 28, 0, 999, berlin)) == "2026-11-21T05:28:00.000Z"
    assert to_rfc3339(datetime(2026, 11, 21, tzinfo=UTC)) == "2026-11-21T00:00:00.000Z"
