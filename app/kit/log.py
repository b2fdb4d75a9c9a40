"""Structured logs: one event with fields per line, to stderr, without secrets.

    log.info("job.completed", job=job_id, seconds=3.2)

`docs/log-events.md` explains every event. Records of the standard library's loggers are written in
the same form.
"""

import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

from app.kit.json_bytes import json_bytes
from app.kit.redaction import redact_text, redacted

_SYSTEM_MESSAGES = frozenset(map(os.strerror, errno.errorcode))
_FIRST_IN_TEXT = frozenset({"timestamp", "level", "event", "exception"})
_context: ContextVar[Mapping[str, Any]] = ContextVar("log_context", default={})  # noqa: B039 - never changed


class Log:
    """Writes events of at least `threshold`, a level of the standard library's `logging`."""

    def __init__(self) -> None:
        self.threshold = logging.INFO
        self.write: Callable[[str, str, Mapping[str, Any]], None] = _writer(_text_line)

    def debug(self, event: str, **fields: Any) -> None:
        if self.threshold <= logging.DEBUG:
            self.write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        if self.threshold <= logging.INFO:
            self.write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        if self.threshold <= logging.WARNING:
            self.write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        if self.threshold <= logging.ERROR:
            self.write("error", event, fields)


@contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Add these fields to every event that this task logs inside the block."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def set_log_context(**fields: Any) -> None:
    """Replace the fields that are added to every event that this task logs."""
    _context.set(fields)


def get_log_context() -> Mapping[str, Any]:
    """Return the fields that are added to every event that this task logs."""
    return _context.get()


def configure(*, level: str = "INFO", line_format: Literal["json", "console"] = "console") -> None:
    """Set up this log and the standard library's loggers for the whole process."""
    render = _json_line if line_format == "json" else _text_line
    log.threshold = logging.getLevelNamesMapping()[level]
    log.write = _writer(render)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(render))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # httpx logs whole URLs, signatures included, at INFO; httpcore the headers at DEBUG.
    for chatty in ("httpx", "httpcore", "alembic", "faster_whisper", "pgqueuer", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def safe_traceback(problem: BaseException) -> list[str]:
    """Return the types and frames of an exception without its message, which may hold user data.

    Of an OSError the system's own message is kept, but no message that a library put there.
    """
    lines = []
    current: BaseException | None = problem
    while current is not None:
        message = str(getattr(current, "strerror", None))
        suffix = f": {message}" if message in _SYSTEM_MESSAGES else ""
        lines.append(f"{type(current).__module__}.{type(current).__qualname__}{suffix}")
        frames = traceback.extract_tb(current.__traceback__)
        lines += [f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        if isinstance(current, BaseExceptionGroup):
            for inner in current.exceptions:
                lines += safe_traceback(inner)
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )
    return lines


_Render = Callable[[Mapping[str, Any]], str]


class _Formatter(logging.Formatter):
    """Renders a record of the standard library's logging as an event."""

    def __init__(self, render: _Render) -> None:
        super().__init__()
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        fields = {"logger": record.name}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return self._render(_completed(record.levelname.lower(), record.getMessage(), fields))


def _writer(render: _Render) -> Callable[[str, str, Mapping[str, Any]], None]:
    def write(level: str, event: str, fields: Mapping[str, Any]) -> None:
        sys.stderr.write(render(_completed(level, event, fields)) + "\n")

    return write


def _completed(level: str, event: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return all fields of a line, with secrets masked."""
    return {
        "timestamp": f"{datetime.now(UTC).replace(tzinfo=None).isoformat()}Z",
        "level": level,
        "event": redact_text(event),
        **redacted(_context.get()),
        **redacted(fields),
    }


def _json_line(line: Mapping[str, Any]) -> str:
    return json_bytes(line, default=repr).decode()


def _text_line(line: Mapping[str, Any]) -> str:
    """Return `time level event field=value ...`, and a traceback on lines of its own."""
    fields = [f"{name}={value!r}" for name, value in line.items() if name not in _FIRST_IN_TEXT]
    text = " ".join((line["timestamp"], f"{line['level']:<8}", line["event"], *fields))
    return f"{text}\n{line['exception']}" if "exception" in line else text


log = Log()
