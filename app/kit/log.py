"""Structured logs: one event with fields a line, and nothing secret in any of them."""

import errno
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from typing import Any, Literal

import structlog

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


def redact_text(text: str) -> str:
    """Mask whatever looks like a key, a password in a URL or a signature."""
    return _SECRET_TEXT.sub(MASK, text)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Structlog processor: mask fields known to be secret, and secrets inside the others."""
    for name, value in event.items():
        event[name] = MASK if name in _SECRET_FIELDS else _redacted(value)
    return event


def _redacted(value: Any) -> Any:
    match value:
        case str():
            return redact_text(value)
        case dict():
            return {
                name: MASK if name in _SECRET_FIELDS else _redacted(inner)
                for name, inner in value.items()
            }
        case list() | tuple():
            return [_redacted(inner) for inner in value]
    return value


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
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # httpx logs whole URLs, signatures included, at INFO; httpcore the headers at DEBUG.
    for chatty in ("httpx", "httpcore", "alembic", "faster_whisper", "pgqueuer", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
