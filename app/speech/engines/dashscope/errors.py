"""What DashScope's errors mean, decided once. Pure.

Failed requests are free, so an error in DashScope's own words costs nothing. A 5xx in anybody
else's words came from a machine on the way: the request behind it may have been served and billed.
"""

import re
from collections.abc import Mapping

from app.speech.engine import Billed, EngineError
from app.speech.engines.http.json_body import SHOWN_CHARACTERS, member, read_object, text_of
from app.speech.engines.http.verdict import (
    ACCOUNT,
    INTERNAL,
    NETWORK,
    RATE_LIMITED,
    REJECTED,
    TIMEOUT,
    UNAVAILABLE,
    Verdict,
    engine_error,
)

BAD_REQUEST, REQUEST_TIMEOUT, TOO_MANY = 400, 408, 429
SERVER_ERRORS = 500
_INSPECTED = ("datainspection", "data_inspection")  # what is said was refused, whatever its form
NO_SPEECH = frozenset({"ASR_RESPONSE_HAVE_NO_WORDS", "SUCCESS_WITH_NO_VALID_FRAGMENT"})

# The code decides before the status does: money comes as 400, 403 and 429, quotas as 400 and 429.
_BY_CODE = (
    (r"Arrearage|.*BillOverdue|CommodityNotPurchased|AllocationQuota\.FreeTierOnly", ACCOUNT),
    (r"Invalid_?Api_?Key|NOT AUTHORIZED|(.*\.)?Access_?Denied.*|WorkSpaceNotFound", ACCOUNT),
    (r"Model_?Not_?Found|Model_?Not_?Supported|Model not exist", ACCOUNT),
    (r"Throttling.*|limit_requests|limit_burst_rate|insufficient_quota", RATE_LIMITED),
    (r"ModelUnavailable|ModelServingError", UNAVAILABLE),
    (r"RequestTimeOut|InternalError\.Timeout", TIMEOUT),
    (r"InternalError(?!\.Algo\.InvalidParameter).*|internal_error|SystemError", INTERNAL),
    (r"ModelServiceFailed", INTERNAL),
    (r"ClientDisconnect", NETWORK),
)
_UNREAD = re.compile(
    r"FILE_(DOWNLOAD_FAILED|403_FORBIDDEN|404_NOT_FOUND|SERVER_ERROR)|InvalidFile\.DownloadFailed"
    r"|REQUEST_INVALID_FILE_URL_VALUE|InvalidURL.*"
)
_ILL_FILES = ("FILE_CHECK_FAILED", "FILE_TRANS_TASK_EXPIRED")
_CODES = [(re.compile(words, re.IGNORECASE), verdict) for words, verdict in _BY_CODE]
_BY_STATUS = {
    401: ACCOUNT,
    402: ACCOUNT,
    403: ACCOUNT,
    404: ACCOUNT,
    REQUEST_TIMEOUT: TIMEOUT,
    TOO_MANY: RATE_LIMITED,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: TIMEOUT,
}


def code_in(body: bytes) -> str:
    """Return the code of an error in DashScope's envelopes or OpenAI's; empty without one."""
    answer = read_object(body.removeprefix(b"data: "))
    places = (("code",), ("error", "code"), ("error", "type"))
    return next((code for place in places if (code := text_of(member(answer, *place)))), "")


def parse_error(status: int, headers: Mapping[str, str], body: bytes) -> EngineError:
    """Classify an answer whose status is not 200. Its own words never reach the log."""
    code = code_in(body)
    verdict = _verdict(status, code)
    is_theirs = bool(code) or status < SERVER_ERRORS
    return engine_error(
        verdict,
        status,
        code,
        headers,
        billed=Billed.NO if is_theirs else Billed.MAYBE,
        about_form=verdict is REJECTED and not code.lower().startswith(_INSPECTED),
    )


def parse_chat_error(body: bytes) -> EngineError:
    """Classify an error inside a chat's stream by its code: the HTTP status was 200."""
    return parse_error(BAD_REQUEST, {}, body)


def file_error(code: str) -> tuple[EngineError, bool]:
    """Classify what a task says of a file that it failed on; tell whether it could not get at it.

    Failed tasks are free.
    """
    unread = bool(_UNREAD.fullmatch(code))
    verdict = INTERNAL if code in _ILL_FILES or not code else _verdict(BAD_REQUEST, code)
    error = EngineError(
        verdict.kind,
        f"the task failed: {code[:SHOWN_CHARACTERS] or 'no code'}",
        retryable=verdict.retryable and not unread,
    )
    return error, unread


def _verdict(status: int, code: str) -> Verdict:
    for words, verdict in _CODES:
        if words.fullmatch(code):
            return verdict
    return _BY_STATUS.get(status, INTERNAL if status >= SERVER_ERRORS else REJECTED)
