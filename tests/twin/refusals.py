"""Every way the service says no, named once; the wires only dress it (protocol 3.1.3, 3.3, 3.7)."""

from dataclasses import dataclass

WRONG_URL = (
    "url error, please check url\uff01For details, see: "
    "https://help.aliyun.com/zh/model-studio/error-code#error-url"
)
BAD_URL = "The provided URL does not appear to be valid. Ensure it is correctly formatted."
TOO_MANY = "Requests rate limit exceeded, please try again later."


@dataclass
class Refusal(Exception):
    """A call refused, free of charge, with its code on either wire."""

    status: int
    code: str
    message: str
    compat_code: str = "invalid_parameter_error"
    compat_message: str | None = None
    retry_after: float | None = None


def invalid(message: str, code: str = "InvalidParameter") -> Refusal:
    return Refusal(400, code, message)


def wrong_url() -> Refusal:
    return invalid(WRONG_URL)


def bad_url() -> Refusal:
    return invalid(BAD_URL)


def bad_key() -> Refusal:
    return Refusal(
        401,
        "InvalidApiKey",
        "Invalid API-key provided.",
        "invalid_api_key",
        "Incorrect API key provided. For details, see: "
        "https://help.aliyun.com/zh/model-studio/error-code#apikey-error",
    )


def not_asynchronous() -> Refusal:
    message = "current user api does not support asynchronous calls."
    return Refusal(403, "AccessDenied", message, "access_denied")


def no_model(model: str) -> Refusal:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return Refusal(404, "ModelNotFound", message, "model_not_found")


def not_compatible(model: str) -> Refusal:
    message = f"Unsupported model `{model}` for OpenAI compatibility mode."
    return Refusal(404, "ModelNotFound", message, "model_not_supported")


def undelivered() -> Refusal:
    return invalid("The audio file cannot be downloaded.", "InvalidFile.DownloadFailed")


def too_large(message: str = "Multimodal file size is too large") -> Refusal:
    return invalid(message, "BadRequest.TooLarge")


def arrearage() -> Refusal:
    message = "Access denied, please make sure your account is in good standing."
    return Refusal(400, "Arrearage", message, "Arrearage")


def inspected() -> Refusal:
    message = "Input or output data may contain inappropriate content."
    return Refusal(400, "DataInspectionFailed", message, "data_inspection_failed")


def too_often(code: str = "Throttling.RateQuota", retry_after: float | None = None) -> Refusal:
    compat = {
        "Throttling.BurstRate": "limit_burst_rate",
        "Throttling.AllocationQuota": "insufficient_quota",
    }.get(code, "limit_requests")
    said = "You exceeded your current requests list." if compat == "limit_requests" else None
    return Refusal(429, code, TOO_MANY, compat, said, retry_after)


def broken() -> Refusal:
    message = "An internal error has occurred, please try again later."
    return Refusal(500, "InternalError", message, "internal_error")


def unavailable() -> Refusal:
    message = "The model is currently unavailable, please try again later."
    return Refusal(503, "ModelUnavailable", message, "model_unavailable")
