"""Events of the gateway's log for tests."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from app.kit.log import log


@contextmanager
def capture_logs() -> Iterator[list[dict[str, Any]]]:
    """Collect events of all levels instead of writing them: fields, `event` and `log_level`."""
    lines: list[dict[str, Any]] = []

    def collect(level: str, event: str, fields: Mapping[str, Any]) -> None:
        lines.append({"event": event, "log_level": level, **fields})

    write, threshold = log.write, log.threshold
    log.write, log.threshold = collect, 0
    try:
        yield lines
    finally:
        log.write, log.threshold = write, threshold
