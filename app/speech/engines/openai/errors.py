"""The error table of the OpenAI protocol, used by OpenAI, vLLM and the proxies before them. Pure.

The envelope is `{"error": {"message", "type", "param", "code"}}`. `code` is a word, the HTTP status
as a number (vLLM), or null. Older servers send the inner object alone, with `"object": "error"`.
The HTTP status decides. Exceptions are a few codes with one meaning under every status, and errors
inside a stream: the HTTP status is 200 there, and `code` or `type` takes its place.
"""

from collections.abc import Mapping
from typing import Any

from app.speech.engine import Billed, EngineError
from app.speech.engines.http.failures import (
    ACCOUNT,
    INTERNAL,
    RATE_LIMITED,
    REJECTED,
    TIMEOUT,
    UNAVAILABLE,
    Verdict,
    provider_error,
)
from app.speech.engines.http.json_reading import member, read_object, text_of

BAD_REQUEST, SERVER_ERROR, LAST_STATUS = 400, 500, 599

_BY_CODE = {
    # Sent with status 429, but waiting does not help: the account has no money or quota left.
    "insufficient_quota": ACCOUNT,
    "billing_hard_limit_reached": ACCOUNT,
    "billing_not_active": ACCOUNT,
    "account_deactivated": ACCOUNT,
    "invalid_api_key": ACCOUNT,
    "model_not_found": ACCOUNT,
    "rate_limit_exceeded": RATE_LIMITED,
    "content_policy_violation": REJECTED,
    "content_filter": REJECTED,
}
_CONTENT = frozenset({"content_policy_violation", "content_filter"})
_BY_STATUS = {
    401: ACCOUNT,
    402: ACCOUNT,
    403: ACCOUNT,
    404: ACCOUNT,
    408: TIMEOUT,
    409: UNAVAILABLE,  # a lock at the server was not free in time; OpenAI's clients retry it
    425: UNAVAILABLE,
    429: RATE_LIMITED,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: TIMEOUT,
}
# Types of errors inside a stream, by the HTTP status that they have outside of one.
_STATUS_OF_TYPE = {
    "invalid_request_error": BAD_REQUEST,
    "BadRequestError": BAD_REQUEST,
    "authentication_error": 401,
    "AuthenticationError": 401,
    "permission_error": 403,
    "PermissionDeniedError": 403,
    "not_found_error": 404,
    "NotFoundError": 404,
    "rate_limit_error": 429,
    "RateLimitError": 429,
    "overloaded_error": 503,
    "ServiceUnavailableError": 503,
}


def openai_error(status: int, headers: Mapping[str, str], body: bytes) -> EngineError:
    """Classify an answer whose status is not 200.

    A failed request is free where the server says in its own envelope that it failed. A 5xx
    without an envelope comes from a proxy, and a timeout says nothing about the request's end:
    the server may have finished and billed it.
    """
    envelope = _envelope(body)
    verdict = _verdict_of_envelope(status, envelope)
    is_free = verdict is not TIMEOUT and (status < SERVER_ERROR or bool(envelope))
    return _error(verdict, status, headers, envelope, Billed.NO if is_free else Billed.MAYBE)


def openai_stream_error(body: bytes) -> EngineError:
    """Classify an error inside a stream, given its `data`.

    Only an error that is found before any text is generated is free.
    """
    envelope = _envelope(body)
    code, kind = envelope.get("code"), text_of(envelope.get("type"))
    if type(code) is int and BAD_REQUEST <= code <= LAST_STATUS:
        status = code
    else:
        status = _STATUS_OF_TYPE.get(kind, SERVER_ERROR)
    verdict = _verdict_of_envelope(status, envelope)
    is_free = verdict in {ACCOUNT, REJECTED, RATE_LIMITED}
    return _error(verdict, status, {}, envelope, Billed.NO if is_free else Billed.MAYBE)


def _error(
    verdict: Verdict,
    status: int,
    headers: Mapping[str, str],
    envelope: Mapping[str, Any],
    billed: Billed,
) -> EngineError:
    words = _code_and_type(envelope)
    format_rejected = verdict is REJECTED and not _CONTENT & set(words)
    return provider_error(
        verdict,
        status,
        next(iter(words), ""),
        headers,
        billed=billed,
        format_rejected=format_rejected,
    )


def _envelope(body: bytes) -> Mapping[str, Any]:
    """Return the error object of a body; empty where there is none."""
    answer = read_object(body)
    inner = member(answer, "error")
    if isinstance(inner, dict):
        return inner
    return answer if answer is not None and answer.get("object") == "error" else {}


def _verdict_of_envelope(status: int, envelope: Mapping[str, Any]) -> Verdict:
    by_code = (_BY_CODE[word] for word in _code_and_type(envelope) if word in _BY_CODE)
    by_status = _BY_STATUS.get(status, INTERNAL if status >= SERVER_ERROR else REJECTED)
    return next(by_code, by_status)


def _code_and_type(envelope: Mapping[str, Any]) -> list[str]:
    """Return code and type where they are words, the code first."""
    return [word for name in ("code", "type") if (word := text_of(envelope.get(name)))]
