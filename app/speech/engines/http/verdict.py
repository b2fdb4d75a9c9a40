"""The result of classifying a provider's error. Shared by the error tables of the engines. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.speech.engine import Billed, EngineError, ErrorKind
from app.speech.engines.http.json_body import SHOWN_CHARACTERS, retry_after


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


def engine_error(
    verdict: Verdict,
    status: int,
    code: str,
    headers: Mapping[str, str],
    *,
    billed: Billed,
    about_form: bool,
) -> EngineError:
    """Return the error to raise. The log sentence holds the status and the code, never a message.

    Messages are left out because providers repeat parts of the request in them.
    """
    return EngineError(
        verdict.kind,
        f"answered {status} {code[:SHOWN_CHARACTERS]}".rstrip(),
        retryable=verdict.retryable,
        billed=billed,
        about_form=about_form,
        retry_after=retry_after(headers) if verdict.retryable else None,
    )
