"""Errors as RFC 9457 problem+json: one schema, one mapper, and their OpenAPI description.

The text of an exception may quote its input, so it is neither answered nor logged. Answers and log
lines have the texts of the error classes in app.errors; other exceptions are logged with type and
frames only.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from app.errors import (
    AudioTooLarge,
    GatewayError,
    InternalError,
    InvalidParameter,
    MalformedBody,
    MethodNotAllowed,
    NoRoute,
    RangeNotSatisfiable,
    UnsupportedMediaType,
)
from app.kit.log import log, safe_traceback
from app.kit.memory import is_out_of_resources
from app.kit.text import printable
from app.server_errors import OutOfResources

MEDIA_TYPE = "application/problem+json"
CLIENT_CLOSED_REQUEST = 499  # for the log: no client receives it
RETRY_AFTER_SECONDS = 5  # when the process has run out of files or memory
MAX_ERRORS = 20  # parameters in one response
MAX_NAME_CHARS = 100  # of a parameter's name, which the caller may have invented
_SERVER_ERROR = 500
EXPECTED = (GatewayError, RequestValidationError, HTTPException, ClientDisconnect)
"""The exceptions by which routes end a request. All others are crashes."""

_BY_STATUS: Mapping[int, Callable[[], GatewayError]] = {
    400: MalformedBody,
    404: NoRoute,
    405: MethodNotAllowed,
    413: partial(AudioTooLarge, "The request body is larger than this address accepts."),
    415: UnsupportedMediaType,
}
# pydantic's messages of these types quote the input, or the text of another exception.
EXPECTED_MOMENT = "Input should be a moment of RFC 3339, such as 2026-11-21T00:00:00Z"
QUOTING_TYPES = frozenset(
    {
        "assertion_error",
        "bytes_invalid_encoding",
        "date_from_datetime_parsing",
        "date_parsing",
        "datetime_from_date_parsing",
        "datetime_object_invalid",
        "datetime_parsing",
        "get_attribute_error",
        "iteration_error",
        "json_invalid",
        "mapping_type",
        "time_delta_parsing",
        "time_parsing",
        "union_tag_invalid",
        "url_parsing",
        "url_syntax_violation",
        "uuid_parsing",
        "value_error",
    }
)


class Problem(BaseModel):
    """An error. Branch on `code`; show `detail`; quote `request_id` when asking for help."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="A URI for this kind of error.")
    title: str = Field(description="What this kind of error means.")
    status: int = Field(description="The HTTP status.", ge=400, le=599)
    detail: str = Field(description="What happened this time, and what to do next.")
    code: str = Field(description="A stable word for this kind of error.")
    request_id: str = Field(description="Finds this request in the gateway's log.")
    retryable: bool = Field(description="Whether the same request may succeed later.")


class _UnnamedError(GatewayError):
    """An HTTP status of the framework that has no error class in app.errors."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.description or f"{status.phrase}.")
        # Set on the instance: a class for each would turn up in `all_errors()`.
        vars(self).update(
            code=status.phrase.lower().replace(" ", "_").replace("-", "_"),
            status=int(status),
            public=f"{status.phrase}.",
        )


def problem_of(error: GatewayError, request_id: str) -> dict[str, Any]:
    """Render an error as the members of a problem."""
    return error.members | {
        "type": f"urn:asr-gateway:error:{error.code}",
        "title": error.public,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
        "retryable": error.retryable,
    }


def problem_response(
    problem: Exception, request_id: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Log an exception if it is a server error or has text for the log; return its answer."""
    error = error_from(problem)
    answer_headers = dict(headers or {})
    if error.retry_after is not None:
        answer_headers["Retry-After"] = str(error.retry_after)
    if error.status == HTTPStatus.UNAUTHORIZED:
        answer_headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RangeNotSatisfiable) and "size" in error.members:
        answer_headers["Content-Range"] = f"bytes */{error.members['size']}"
    if isinstance(error, InternalError) and problem is not error:
        log.error("http.crashed", exception="\n".join(safe_traceback(problem)))
    elif error.status >= _SERVER_ERROR:
        log.error("http.error", code=error.code, reason=error.log)
    elif error.log is not None:
        log.info("http.error", code=error.code, reason=error.log)
    body = to_json(problem_of(error, request_id))
    return Response(body, error.status, headers=answer_headers, media_type=MEDIA_TYPE)


def error_from(problem: BaseException) -> GatewayError:
    """Return the error for an exception."""
    if isinstance(problem, GatewayError):
        return problem
    if isinstance(problem, RequestValidationError):
        return _invalid_request(problem.errors())
    if isinstance(problem, HTTPException):
        # FastAPI answers 400 to every exception of a body's receive(), also to BodyTooSlow.
        if isinstance(problem.__cause__, GatewayError):
            return problem.__cause__
        status = problem.status_code
        if status in _BY_STATUS:
            return _BY_STATUS[status]()
        if status != _SERVER_ERROR and status in set(HTTPStatus):
            return _UnnamedError(HTTPStatus(status))
    is_busy = is_out_of_resources(problem)
    return OutOfResources(retry_after=RETRY_AFTER_SECONDS) if is_busy else InternalError()


def install_error_handlers(app: FastAPI) -> None:
    """Answer the expected errors of `app` as problems, and describe them in its OpenAPI document.

    RequestMiddleware answers all other exceptions.
    """

    async def handle(request: Request, problem: Exception) -> Response:
        return answer_expected(request, problem)

    for kind in EXPECTED:
        app.add_exception_handler(kind, handle)
    plain = app.openapi
    app.openapi = lambda: add_problem_schema(plain())  # type: ignore[method-assign]


def responses(*errors: type[GatewayError]) -> dict[int | str, dict[str, Any]]:
    """Describe the error answers of a route for FastAPI's `responses=`: one example per error."""
    found: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        schema = {"$ref": "#/components/schemas/Problem"}
        entry = found.setdefault(
            error.status,
            {
                "description": HTTPStatus(error.status).phrase,
                "content": {MEDIA_TYPE: {"schema": schema, "examples": {}}},
            },
        )
        entry["content"][MEDIA_TYPE]["examples"][error.code] = {
            "summary": error.public,
            "value": problem_of(error(), "req_01981f2a6c7e7b3fa1d2c4e5f6a7b8c9"),
        }
    return found


def add_problem_schema(document: dict[str, Any]) -> dict[str, Any]:
    """Add the schema Problem to an OpenAPI document; it replaces FastAPI's own 422 responses."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.setdefault("Problem", Problem.model_json_schema())
    if schemas.pop("HTTPValidationError", None) is not None:
        schemas.pop("ValidationError", None)
    for path in document.get("paths", {}).values():
        for operation in path.values():
            answers = operation.get("responses", {}) if isinstance(operation, dict) else {}
            if "HTTPValidationError" in str(answers.get("422")):
                answers["422"] = responses(InvalidParameter)[422]
    return document


def answer_expected(request: Request, problem: Exception) -> Response:
    """Return the answer to an exception of a kind in EXPECTED."""
    if isinstance(problem, ClientDisconnect):
        log.info("http.client_disconnected")
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    headers = dict(getattr(problem, "headers", None) or {})
    if "Allow" in headers:
        # The router knows only the methods of its first route with this address.
        address = getattr(request.scope.get("route"), "path", "")
        methods = request.app.openapi()["paths"].get(address, ())
        headers["Allow"] = ", ".join(map(str.upper, methods)) or headers["Allow"]
    return problem_response(problem, getattr(request.state, "request_id", "-"), headers)


def _invalid_request(errors: Sequence[Mapping[str, Any]]) -> GatewayError:
    if any(error["type"] == "json_invalid" for error in errors):
        return MalformedBody("The request body is not valid JSON.")
    described = []
    for error in errors[:MAX_ERRORS]:
        place, *steps = error["loc"] or ["request"]
        # The number of a value of a repeated parameter is not a part of the name.
        names = [str(step) for step in steps if place == "body" or not isinstance(step, int)]
        name = (".".join(names) or str(place))[:MAX_NAME_CHARS]
        expected = str(error["msg"])
        if error["type"].startswith(("date_", "datetime_")):
            expected = EXPECTED_MOMENT
        elif error["type"] in QUOTING_TYPES:
            lead = expected.partition(", ")[0]
            expected = lead if lead.startswith("Input should") else "The value is not accepted"
        described.append({"parameter": printable(name), "in": str(place), "expected": expected})
    if not described:
        return InvalidParameter()
    first = described[0]
    return InvalidParameter(
        f"`{first['parameter']}` ({first['in']}): {first['expected']}.",
        parameter=first["parameter"],
        errors=described,
    )
