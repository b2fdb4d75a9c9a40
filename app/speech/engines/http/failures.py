"""Failed calls as EngineErrors: no answer, a malformed answer, or a provider error. Pure.

The errors of a provider are classified by the error table of its engine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.kit.clock import parse_http_date
from app.net.http.exchange import ExchangeError, Fault
from app.speech.engine import Billed, EngineError, ErrorKind
from app.speech.engines.http.json_reading import number_of, read_object

LOGGED_CHARACTERS = 200  # of an error code

_KINDS = {
    Fault.UNREACHABLE: ErrorKind.NETWORK,
    Fault.BROKEN: ErrorKind.NETWORK,
    Fault.TIMEOUT: ErrorKind.TIMEOUT,
    Fault.TOO_LARGE: ErrorKind.MALFORMED,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The kind of a failure. `retryable`: the same call can succeed later."""

    kind: ErrorKind
    retryable: bool


ACCOUNT = Verdict(ErrorKind.ACCOUNT, retryable=False)
REJECTED = Verdict(ErrorKind.REJECTED, retryable=False)
RATE_LIMITED = Verdict(ErrorKind.RATE_LIMITED, retryable=True)
INTERNAL = Verdict(ErrorKind.INTERNAL, retryable=True)
UNAVAILABLE = Verdict(ErrorKind.UNAVAILABLE, retryable=True)
TIMEOUT = Verdict(ErrorKind.TIMEOUT, retryable=True)
NETWORK = Verdict(ErrorKind.NETWORK, retryable=True)


def provider_error(
    verdict: Verdict,
    status: int,
    code: str,
    headers: Mapping[str, str],
    *,
    billed: Billed,
    format_rejected: bool,
) -> EngineError:
    """Return the EngineError for an error answer.

    Its log sentence holds the status and the code. The provider's message is left out, because
    providers repeat parts of the request in it.
    """
    return EngineError(
        verdict.kind,
        f"answered {status} {code[:LOGGED_CHARACTERS]}".rstrip(),
        retryable=verdict.retryable,
        billed=billed,
        format_rejected=format_rejected,
        retry_after=retry_after(headers) if verdict.retryable else None,
    )


def exchange_failure(error: ExchangeError) -> EngineError:
    """Return the EngineError for an exchange without an answer.

    A request that was sent completely may have been billed.
    """
    return EngineError(
        _KINDS[error.fault],
        f"{error.fault}: {error}",
        retryable=True,
        billed=Billed.MAYBE if error.was_sent else Billed.NO,
    )


def object_of(body: bytes) -> dict[str, Any]:
    """Return the JSON object of an answer. Raises EngineError if the body is anything else."""
    answer = read_object(body)
    if answer is None:
        raise malformed_response(f"an answer of {len(body)} bytes that is not a JSON object")
    return answer


def malformed_response(reason: str) -> EngineError:
    """Return the EngineError for an answer that cannot be read. It may have been billed."""
    return EngineError(ErrorKind.MALFORMED, reason, retryable=True, billed=Billed.MAYBE)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds of a Retry-After header in either of its forms, or None without one."""
    value = headers.get("retry-after", "").strip()
    try:
        return number_of(float(value))
    except ValueError:
        pass
    at = parse_http_date(value)
    return None if at is None else max(0.0, (at - (now or datetime.now(UTC))).total_seconds())
