"""The error table of DashScope. Pure.

Failed requests are free, so an error in DashScope's own envelope costs nothing. A 5xx in any other
form comes from a proxy: the service behind it may have finished and billed the request.
"""

import re
from collections.abc import Mapping

from app.speech.engine import Billed, EngineError
from app.speech.engines.http.failures import (
    ACCOUNT,
    INTERNAL,
    LOGGED_CHARACTERS,
    NETWORK,
    RATE_LIMITED,
    REJECTED,
    TIMEOUT,
    UNAVAILABLE,
    Verdict,
    provider_error,
)
from app.speech.engines.http.json_reading import member, read_object, text_of

BAD_REQUEST, REQUEST_TIMEOUT, TOO_MANY, SERVER_ERROR = 400, 408, 429, 500
NO_SPEECH = frozenset({"ASR_RESPONSE_HAVE_NO_WORDS", "SUCCESS_WITH_NO_VALID_FRAGMENT"})
_CONTENT = ("datainspection", "data_inspection")  # the speech was rejected, not its format

# The code decides before the status: lack of money comes as 400, 403 or 429, quotas as 400 or 429.
_BY_CODE = [
    (re.compile(pattern, re.IGNORECASE), verdict)
    for pattern, verdict in (
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
]
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
_UNREADABLE_FILE = re.compile(
    r"FILE_(DOWNLOAD_FAILED|403_FORBIDDEN|404_NOT_FOUND|SERVER_ERROR)|InvalidFile\.DownloadFailed"
    r"|REQUEST_INVALID_FILE_URL_VALUE|InvalidURL.*"
)
_INTERNAL_FILE_CODES = ("", "FILE_CHECK_FAILED", "FILE_TRANS_TASK_EXPIRED")


def code_in(body: bytes) -> str:
    """Return the code of an error in the native or the OpenAI envelope, or an empty text."""
    answer = read_object(body.removeprefix(b"data: "))
    places = (("code",), ("error", "code"), ("error", "type"))
    return next((code for place in places if (code := text_of(member(answer, *place)))), "")


def dashscope_error(status: int, headers: Mapping[str, str], body: bytes) -> EngineError:
    """Classify an answer whose status is not 200."""
    code = code_in(body)
    verdict = _verdict_of_code(status, code)
    is_free = bool(code) or status < SERVER_ERROR
    return provider_error(
        verdict,
        status,
        code,
        headers,
        billed=Billed.NO if is_free else Billed.MAYBE,
        format_rejected=verdict is REJECTED and not code.lower().startswith(_CONTENT),
    )


def file_error(code: str) -> tuple[EngineError, bool]:
    """Classify the error of one file of a task, and return whether the file was unreadable.

    Failed tasks are free.
    """
    unreadable = bool(_UNREADABLE_FILE.fullmatch(code))
    verdict = INTERNAL if code in _INTERNAL_FILE_CODES else _verdict_of_code(BAD_REQUEST, code)
    error = EngineError(
        verdict.kind,
        f"the task failed: {code[:LOGGED_CHARACTERS] or 'no code'}",
        retryable=verdict.retryable and not unreadable,
    )
    return error, unreadable


def _verdict_of_code(status: int, code: str) -> Verdict:
    for pattern, verdict in _BY_CODE:
        if pattern.fullmatch(code):
            return verdict
    return _BY_STATUS.get(status, INTERNAL if status >= SERVER_ERROR else REJECTED)
