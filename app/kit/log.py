"""Structured logs: one event with fields a line, and nothing secret in any of them."""

import errno
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from app.kit.json_bytes import json_bytes

MASK = "****"
_SYSTEM_WORDS = frozenset(map(os.strerror, errno.errorcode))
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


_IN_EVERY_SECRET = re.compile(r"[-_:=\s]")  # a text without any of these holds no secret
_TEXT_HEAD = frozenset({"timestamp", "level", "event", "exception"})


def redact_text(text: str) -> str:
    """Mask parts of a text that look like a key, a password in a URL or a signature."""
    return _SECRET_TEXT.sub(MASK, text) if _IN_EVERY_SECRET.search(text) else text


def complete(
    _logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Structlog processor: add context, exception, level and time; mask secrets in all the rest."""
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(_logger, method, event)
    event = structlog.contextvars.merge_contextvars(_logger, method, event)
    for name, value in event.items():
        event[name] = MASK if name in _SECRET_FIELDS else _redacted(value)
    event["level"] = method
    event["timestamp"] = f"{datetime.now(UTC).replace(tzinfo=None).isoformat()}Z"
    return event


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {
            name: MASK if name in _SECRET_FIELDS else _redacted(inner)
            for name, inner in value.items()
        }
    return [_redacted(inner) for inner in value] if isinstance(value, list | tuple) else value


def safe_traceback(problem: BaseException) -> list[str]:
    """Tell an exception by types and frames; its message may quote what was sent to us.

    Of an OSError the system's own words are safe, and told; a library may have put in others.
    """
    return list(_story(problem))


def _story(problem: BaseException) -> Iterator[str]:
    seen: BaseException | None = problem
    while seen is not None:
        words = str(getattr(seen, "strerror", None))
        told = f": {words}" if words in _SYSTEM_WORDS else ""
        yield f"{type(seen).__module__}.{type(seen).__qualname__}{told}"
        for frame in traceback.extract_tb(seen.__traceback__):
            yield f"  {frame.filename}:{frame.lineno} {frame.name}"
        if isinstance(seen, BaseExceptionGroup):
            for inner in seen.exceptions:
                yield from _story(inner)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def configure(*, level: str = "INFO", form: Literal["json", "console"] = "console") -> None:
    """Set up structlog and the standard library's loggers for the whole process, to stderr."""
    render = _json_line if form == "json" else _text_line
    structlog.configure(
        # Straight to the stream: through the standard library a line costs four times as much.
        processors=[complete, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=_Stderr,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[complete],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # httpx logs whole URLs, signatures included, at INFO; httpcore the headers at DEBUG.
    for chatty in ("httpx", "httpcore", "alembic", "faster_whisper", "pgqueuer", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class _Stderr:
    """Structlog's last step: writes a line to stderr."""

    def msg(self, line: str) -> None:
        sys.stderr.write(line + "\n")

    debug = info = warning = error = critical = msg


def _json_line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return json_bytes(event, default=repr).decode()


def _text_line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """Return `time level event field=value ...`, and a traceback on lines of its own."""
    fields = {name: value for name, value in event.items() if name not in _TEXT_HEAD}
    shown = [f"{name}={value!r}" for name, value in fields.items()]
    head = f"{event['timestamp']} {event['level']:<8} {event['event']}"
    line = " ".join([head, *shown])
    return f"{line}\n{event['exception']}" if "exception" in event else line
