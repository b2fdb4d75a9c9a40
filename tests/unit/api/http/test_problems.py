"""Every error is a problem+json with a remedy, and without content of the request.

Covers: app.api.http.body_rate, app.api.http.middleware, app.api.http.problems, app.error_codes
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Body, FastAPI, HTTPException, Query
from pydantic import BaseModel, ConfigDict, field_validator
from pydantic_core import PydanticCustomError, _pydantic_core

from app.api.http import problems
from app.api.http.body_rate import BodyRate
from app.api.http.middleware import RequestMiddleware
from app.error_codes import all_errors
from app.errors import (
    BodyTooSlow,
    EngineFailed,
    GatewayError,
    InvalidParameter,
    KeyInvalid,
    KeyMissing,
    NotFound,
    RangeNotSatisfiable,
    TooManyJobs,
    Undecodable,
)
from tests.support.captured_log import capture_logs

pytestmark = pytest.mark.anyio
CANARY = "canary-7f3a"


class Wish(BaseModel):
    model_config = ConfigDict(extra="forbid")
    model: Literal["a", "b"] = "a"
    name: str = ""
    words: str = ""

    @field_validator("name")
    @classmethod
    def _check(cls, value: str) -> str:
        int(value or "1")  # its ValueError quotes the input
        return value

    @field_validator("words")
    @classmethod
    def _speak(cls, value: str) -> str:
        if value:
            raise PydanticCustomError("words", "Words must be empty")
        return value


def tiny_app() -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None)
    problems.install_error_handlers(app)
    app.add_middleware(RequestMiddleware, rate=BodyRate(1, 1, 1))
    router = APIRouter()

    @router.get("/fail/{code}", responses=problems.responses(NotFound, KeyMissing, KeyInvalid))
    def fail(code: str) -> None:
        for error in all_errors():
            if error.code == code:
                raise error
        if code == "crash":
            raise KeyError(CANARY)
        if code == "disk":
            raise OSError(28, "No space left on device", f"/{CANARY}")
        if code.isdigit():
            raise HTTPException(int(code), CANARY)
        raise EngineFailed(log="upstream said no", retry_after=7, task="t1", code_seen=3)

    @router.get("/range")
    def span() -> None:
        raise RangeNotSatisfiable(size=10)

    @router.get("/query")
    def query(limit: Annotated[int, Query(ge=1, le=100)], at: UUID | None = None) -> None: ...

    @router.post("/wish")
    def wish(wish: Annotated[Wish, Body()]) -> None: ...

    app.include_router(router, prefix="/v1")
    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(tiny_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


def problem_in(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert problems.Problem.model_validate(body).status == response.status_code
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["type"] == f"urn:asr-gateway:error:{body['code']}"
    assert CANARY not in response.text
    return body


@pytest.mark.parametrize("error", list(all_errors()), ids=lambda error: error.code)
async def test_every_error_is_a_problem(
    client: httpx.AsyncClient, error: type[GatewayError]
) -> None:
    response = await client.get(f"/v1/fail/{error.code}")
    body = problem_in(response)
    assert (body["code"], body["status"]) == (error.code, error.status)
    assert (body["title"], body["detail"]) == (error.public, error.public)
    assert body["retryable"] is error.retryable
    assert (response.headers.get("www-authenticate") == "Bearer") is (error.status == 401)


async def test_problems_have_members_and_retry_after_but_no_log_text(
    client: httpx.AsyncClient,
) -> None:
    with capture_logs() as lines:
        response = await client.get("/v1/fail/engine")
    body = problem_in(response)
    assert (body["code"], body["task"], body["code_seen"]) == ("engine_failed", "t1", 3)
    assert response.headers["retry-after"] == "7"
    assert "upstream said no" not in response.text
    assert lines[0] == {
        "event": "http.error",
        "log_level": "error",
        "code": "engine_failed",
        "reason": "upstream said no",
    }


def test_members_cannot_replace_what_every_problem_has() -> None:
    error = NotFound(status=200, request_id="forged")
    assert problems.problem_of(error, "req_1")["status"] == 404
    assert problems.problem_of(error, "req_1")["request_id"] == "req_1"


async def test_an_unsatisfiable_range_has_the_size(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/range")
    assert problem_in(response)["code"] == "range_not_satisfiable"
    assert response.headers["content-range"] == "bytes */10"


@pytest.mark.parametrize("way", ["crash", "disk"])
async def test_a_crash_is_an_internal_error_without_its_message(
    client: httpx.AsyncClient, way: str
) -> None:
    with capture_logs() as lines:
        response = await client.get(f"/v1/fail/{way}")
    assert problem_in(response)["code"] == "internal_error"
    crash = next(line for line in lines if line["event"] == "http.crashed")
    assert "test_problems.py" in crash["exception"]
    assert CANARY not in str(lines)
    assert ("No space left" in crash["exception"]) is (way == "disk")


async def test_an_unknown_address(client: httpx.AsyncClient) -> None:
    assert problem_in(await client.get(f"/{CANARY}"))["code"] == "no_such_route"


async def test_a_wrong_method_keeps_allow(client: httpx.AsyncClient) -> None:
    response = await client.delete("/v1/query")
    assert problem_in(response)["code"] == "method_not_allowed"
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("status", "answered", "code"),
    [
        (400, 400, "malformed_body"),
        (413, 413, "audio_too_large"),
        (415, 415, "unsupported_media_type"),
        (406, 406, "not_acceptable"),
        (503, 503, "service_unavailable"),
        (500, 500, "internal_error"),
        (599, 500, "internal_error"),
    ],
)
async def test_the_frameworks_own_errors(
    client: httpx.AsyncClient, status: int, answered: int, code: str
) -> None:
    body = problem_in(await client.get(f"/v1/fail/{status}"))
    assert (body["status"], body["code"]) == (answered, code)
    assert "not_acceptable" not in [error.code for error in all_errors()]


async def test_a_wrong_parameter_is_named_with_what_was_expected(
    client: httpx.AsyncClient,
) -> None:
    body = problem_in(await client.get("/v1/query", params={"limit": "1000", "at": CANARY}))
    assert (body["code"], body["status"], body["parameter"]) == ("invalid_parameter", 422, "limit")
    assert body["detail"] == "`limit` (query): Input should be less than or equal to 100."
    assert body["errors"][1] == {
        "parameter": "at",
        "in": "query",
        "expected": "Input should be a valid UUID",
    }


@pytest.mark.parametrize(
    ("wish", "parameter", "expected"),
    [
        ({"model": CANARY}, "model", "Input should be 'a' or 'b'"),
        ({"name": CANARY}, "name", "The value is not accepted"),
        ({"words": CANARY}, "words", "Words must be empty"),
        ({"x" * 500: 1}, "x" * 100, "Extra inputs are not permitted"),
        ({"a\nb": 1}, "a?b", "Extra inputs are not permitted"),
    ],
)
async def test_a_wrong_body_is_told_without_quoting_it(
    client: httpx.AsyncClient, wish: dict[str, Any], parameter: str, expected: str
) -> None:
    body = problem_in(await client.post("/v1/wish", json=wish))
    assert body["errors"] == [{"parameter": parameter, "in": "body", "expected": expected}]


async def test_many_wrong_parameters_are_told_up_to_a_bound(client: httpx.AsyncClient) -> None:
    body = problem_in(await client.post("/v1/wish", json={f"x{n}": 1 for n in range(500)}))
    assert len(body["errors"]) == problems.MAX_ERRORS


async def test_broken_json_is_a_malformed_body(client: httpx.AsyncClient) -> None:
    json_type = {"content-type": "application/json"}
    response = await client.post("/v1/wish", content=f'{{"{CANARY}', headers=json_type)
    assert problem_in(response)["code"] == "malformed_body"


def test_pydantic_has_no_quoting_message_we_do_not_know() -> None:
    placeholders = ("{error}", "{tag}", "{encoding_error}")
    quoting = {
        known["type"]
        for known in _pydantic_core.list_all_errors()
        if any(word in known["message_template_python"] for word in placeholders)
    }
    assert quoting == problems.QUOTING_TYPES


def test_errors_wrapped_by_the_framework_are_unwrapped() -> None:
    wrapped = HTTPException(400, "There was an error parsing the body")
    wrapped.__cause__ = BodyTooSlow()
    assert problems.error_from(wrapped) is wrapped.__cause__


def test_responses_are_grouped_by_status_with_an_example_each() -> None:
    found = problems.responses(KeyMissing, KeyInvalid, InvalidParameter, Undecodable, TooManyJobs)
    assert list(found) == [401, 422, 429]
    content = found[422]["content"]["application/problem+json"]
    assert list(content["examples"]) == ["invalid_parameter", "undecodable"]
    for example in content["examples"].values():
        problems.Problem.model_validate(example["value"])


def test_the_document_knows_problem_and_nothing_of_the_frameworks_422() -> None:
    document = tiny_app().openapi()
    text = str(document)
    assert "Problem" in document["components"]["schemas"]
    assert "HTTPValidationError" not in text
    assert "'ValidationError'" not in text
    answers = document["paths"]["/v1/fail/{code}"]["get"]["responses"]
    assert list(answers["404"]["content"]) == ["application/problem+json"]
    assert list(answers["422"]["content"]) == ["application/problem+json"]
