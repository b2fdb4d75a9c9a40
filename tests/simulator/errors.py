"""Every error of the service, independent of the wire's format (protocol 3.1.3, 3.3, 3.7)."""

from dataclasses import dataclass

WRONG_URL = (
    "url error, please check url\uff01For details, see: "
    "https://help.aliyun.com/zh/model-studio/error-code#error-url"
)
BAD_URL = "The provided URL does not appear to be valid. Ensure it is correctly formatted."
TOO_MANY = "Requests rate limit exceeded, please try again later."


@dataclass
class ApiError(Exception):
    """A rejected call, free of charge, with its code on both wires.

    `file_code`: the code in a task for a file with this error.
    """

    status: int
    code: str
    message: str
    compat_code: str = "invalid_parameter_error"
    compat_message: str | None = None
    retry_after: float | None = None
    file_code: str | None = None


def invalid(
    message: str, code: str = "InvalidParameter", *, file_code: str | None = None
) -> ApiError:
    return ApiError(400, code, message, file_code=file_code)


def wrong_url() -> ApiError:
    return invalid(WRONG_URL)


def bad_url() -> ApiError:
    return invalid(BAD_URL)


def bad_key() -> ApiError:
    return ApiError(
        401,
        "InvalidApiKey",
        "Invalid API-key provided.",
        "invalid_api_key",
        "Incorrect API key provided. For details, see: "
        "https://help.aliyun.com/zh/model-studio/error-code#apikey-error",
    )


def not_asynchronous() -> ApiError:
    message = "current user api does not support asynchronous calls."
    return ApiError(403, "AccessDenied", message, "access_denied")


def not_synchronous() -> ApiError:
    message = "current user api does not support synchronous calls."
    return ApiError(403, "AccessDenied", message, "access_denied")


def not_cancelled() -> ApiError:
    message = "Failed to cancel the task, please confirm if the task is in PENDING status."
    return invalid(message, "UnsupportedOperation")


def no_model(model: str) -> ApiError:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return ApiError(404, "ModelNotFound", message, "model_not_found")


def not_compatible(model: str) -> ApiError:
    message = f"Unsupported model `{model}` for OpenAI compatibility mode."
    return ApiError(404, "ModelNotFound", message, "model_not_supported")


def undelivered(file_code: str = "FILE_DOWNLOAD_FAILED") -> ApiError:
    message = "The audio file cannot be downloaded."
    return invalid(message, "InvalidFile.DownloadFailed", file_code=file_code)


def too_large(message: str = "Multimodal file size is too large") -> ApiError:
    return invalid(message, "BadRequest.TooLarge", file_code="FILE_TOO_LARGE")


def no_words() -> ApiError:
    return invalid("ASR_RESPONSE_HAVE_NO_WORDS", "ASR_RESPONSE_HAVE_NO_WORDS")


def nothing_said() -> ApiError:
    code = "SUCCESS_WITH_NO_VALID_FRAGMENT"
    return invalid(code, code)


def arrearage() -> ApiError:
    message = "Access denied, please make sure your account is in good standing."
    return ApiError(400, "Arrearage", message, "Arrearage")


def inspected() -> ApiError:
    message = "Input or output data may contain inappropriate content."
    return ApiError(400, "DataInspectionFailed", message, "data_inspection_failed")


def too_often(code: str = "Throttling.RateQuota", retry_after: float | None = None) -> ApiError:
    compat = {
        "Throttling.BurstRate": "limit_burst_rate",
        "Throttling.AllocationQuota": "insufficient_quota",
    }.get(code, "limit_requests")
    said = "You exceeded your current requests list." if compat == "limit_requests" else None
    return ApiError(429, code, TOO_MANY, compat, said, retry_after)


def broken() -> ApiError:
    message = "An internal error has occurred, please try again later."
    return ApiError(500, "InternalError", message, "internal_error")


def unavailable() -> ApiError:
    message = "The model is currently unavailable, please try again later."
    return ApiError(503, "ModelUnavailable", message, "model_unavailable")


def failed() -> ApiError:
    return ApiError(500, "InternalError.Algo", "An internal error has occurred.")


def timed_out() -> ApiError:
    return ApiError(500, "InternalError.Timeout", "InternalError.Timeout")


def too_long() -> ApiError:
    return invalid("AUDIO_DURATION_TOO_LONG", "AUDIO_DURATION_TOO_LONG")


def no_audio() -> ApiError:
    return invalid("NO_INPUT_AUDIO_ERROR", "NO_INPUT_AUDIO_ERROR")


def store_refuses(message: str, code: str = "AccessDenied", status: int = 403) -> ApiError:
    """Return an error of the object store, in XML."""
    return ApiError(status, code, message)


def expired_address() -> ApiError:
    return store_refuses("Request has expired.")


def expired_policy() -> ApiError:
    return store_refuses("Invalid according to Policy: Policy expired.")


def store_broken() -> ApiError:
    message = "We encountered an internal error. Please try again."
    return store_refuses(message, "InternalError", 500)
