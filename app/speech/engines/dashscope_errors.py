"""What DashScope's errors mean, decided once. Pure.

Failed requests are free, so an error in DashScope's own words costs nothing. A 5xx in anybody
else's words came from a machine on the way: the request behind it may have been served and billed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from app.speech.contract import Billed, EngineError, ErrorKind
from app.speech.engines.wire import SHOWN_CHARACTERS, member, read_object, retry_after, text_of

REFUSED, REQUEST_TIMEOUT, CONFLICT, TOO_MANY = 400, 408, 409, 429
SERVER_ERRORS = 500
_INSPECTED = ("datainspection", "data_inspection")  # what is said was refused, whatever its form
NO_SPEECH = frozenset({"ASR_RESPONSE_HAVE_NO_WORDS", "SUCCESS_WITH_NO_VALID_FRAGMENT"})


@dataclass(frozen=True, slots=True)
class _Verdict:
    kind: ErrorKind
    retryable: bool


_ACCOUNT = _Verdict(ErrorKind.ACCOUNT, retryable=False)
_REFUSED = _Verdict(ErrorKind.REFUSED, retryable=False)
_BUSY = _Verdict(ErrorKind.RATE_LIMITED, retryable=True)
_ILL = _Verdict(ErrorKind.INTERNAL, retryable=True)
_AWAY = _Verdict(ErrorKind.UNAVAILABLE, retryable=True)
_LATE = _Verdict(ErrorKind.TIMEOUT, retryable=True)
_CUT = _Verdict(ErrorKind.NETWORK, retryable=True)

# The code decides before the status does: money comes as 400, 403 and 429, quotas as 400 and 429.
_BY_CODE = (
    (r"Arrearage|.*BillOverdue|CommodityNotPurchased|AllocationQuota\.FreeTierOnly", _ACCOUNT),
    (r"Invalid_?Api_?Key|NOT AUTHORIZED|(.*\.)?Access_?Denied.*|WorkSpaceNotFound", _ACCOUNT),
    (r"Model_?Not_?Found|Model_?Not_?Supported|Model not exist", _ACCOUNT),
    (r"Throttling.*|limit_requests|limit_burst_rate|insufficient_quota", _BUSY),
    (r"ModelUnavailable|ModelServingError", _AWAY),
    (r"RequestTimeOut|InternalError\.Timeout", _LATE),
    (r"InternalError(?!\.Algo\.InvalidParameter).*|internal_error|SystemError", _ILL),
    (r"ModelServiceFailed", _ILL),
    (r"ClientDisconnect", _CUT),
)
_UNREAD = re.compile(
    r"FILE_(DOWNLOAD_FAILED|403_FORBIDDEN|404_NOT_FOUND|SERVER_ERROR)|InvalidFile\.DownloadFailed"
    r"|REQUEST_INVALID_FILE_URL_VALUE|InvalidURL.*"
)
_ILL_FILES = ("FILE_CHECK_FAILED", "FILE_TRANS_TASK_EXPIRED")
_CODES = [(re.compile(words, re.IGNORECASE), verdict) for words, verdict in _BY_CODE]
_BY_STATUS = {
    401: _ACCOUNT,
    402: _ACCOUNT,
    403: _ACCOUNT,
    404: _ACCOUNT,
    REQUEST_TIMEOUT: _LATE,
    TOO_MANY: _BUSY,
    502: _AWAY,
    503: _AWAY,
    504: _LATE,
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
    return EngineError(
        verdict.kind,
        f"answered {status} {code[:SHOWN_CHARACTERS]}".rstrip(),
        retryable=verdict.retryable,
        billed=Billed.NO if is_theirs else Billed.MAYBE,
        about_form=verdict is _REFUSED and not code.lower().startswith(_INSPECTED),
        retry_after=retry_after(headers) if verdict.retryable else None,
    )


def file_error(code: str) -> tuple[EngineError, bool]:
    """Classify what a task says of a file that it failed on; tell whether it could not get at it.

    Failed tasks are free.
    """
    unread = bool(_UNREAD.fullmatch(code))
    verdict = _ILL if code in _ILL_FILES or not code else _verdict(REFUSED, code)
    error = EngineError(
        verdict.kind,
        f"the task failed: {code[:SHOWN_CHARACTERS] or 'no code'}",
        retryable=verdict.retryable and not unread,
    )
    return error, unread


def _verdict(status: int, code: str) -> _Verdict:
    for words, verdict in _CODES:
        if words.fullmatch(code):
            return verdict
    return _BY_STATUS.get(status, _ILL if status >= SERVER_ERRORS else _REFUSED)
