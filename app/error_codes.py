"""The errors by their codes."""

from collections.abc import Iterator

import app.server_errors  # noqa: F401  # a class counts once it is defined
from app.errors import GatewayError, InternalError


def all_errors() -> Iterator[type[GatewayError]]:
    """Yield every error class that is raised and has a code of its own, in its order."""
    seen: set[str] = set()
    pending: list[type[GatewayError]] = GatewayError.__subclasses__()
    while pending:
        cls = pending.pop(0)
        if cls.code not in seen:
            seen.add(cls.code)
            yield cls
        pending[:0] = cls.__subclasses__()


def error_of(code: str) -> type[GatewayError]:
    """Return the class that carries `code`; unknown codes are internal errors."""
    return next((cls for cls in all_errors() if cls.code == code), InternalError)
