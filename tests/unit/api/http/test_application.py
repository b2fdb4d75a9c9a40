"""Tests of the application: its middleware, and the routes that are called directly.

Covers: app.api.http.application
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, Request, Response

from app.api.http import problems
from app.api.http.application import Application, DirectRoutes
from app.api.http.body_rate import BodyRate
from app.api.http.cors import cors_for
from app.errors import MissingAudio

pytestmark = pytest.mark.anyio


def made() -> Application:
    app = Application(rate=BodyRate(1, 1, 1), cors=cors_for(["https://page.example"]))
    problems.install_error_handlers(app)

    @app.post("/direct", openapi_extra={"x-kept": True})
    async def direct(request: Request) -> Response:
        body = await request.body()
        if body == b"refuse":
            raise MissingAudio
        if body == b"crash":
            raise ValueError
        return Response(body, media_type="text/plain")

    @app.get("/direct")
    async def listed(request: Request, limit: int = 1) -> Response:
        return Response(f"{request.method} {limit}")

    @app.get("/items/{name}")
    async def by_name(request: Request) -> Response:
        return Response(request.path_params["name"])

    @app.get("/guarded", dependencies=[Depends(refuse)])
    async def guarded(request: Request) -> Response:
        return Response(request.url.path)

    @app.get("/model")
    async def model(request: Request) -> dict[str, str]:
        return {"path": request.url.path}

    @app.get("/depends")
    async def depends(request: Request, _found: Annotated[None, Depends(refuse)]) -> Response:
        return Response(request.url.path)

    return app


async def refuse() -> None:
    raise MissingAudio


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(made())
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


def test_only_endpoints_that_take_the_request_alone_are_direct() -> None:
    async def others(*_: Any) -> None:
        raise AssertionError

    assert list(DirectRoutes(made().routes, others)._routes) == [("POST", "/direct")]


def test_a_direct_route_is_documented() -> None:
    assert made().openapi()["paths"]["/direct"]["post"]["x-kept"] is True


async def test_a_direct_route_answers_as_every_other_route(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/direct", content=b"hello", headers={"Origin": "https://page.example"}
    )
    assert (answer.status_code, answer.text) == (200, "hello")
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert answer.headers["x-request-id"].startswith("req_")


async def test_an_error_of_a_direct_route_is_a_problem(client: httpx.AsyncClient) -> None:
    answer = await client.post("/direct", content=b"refuse")
    assert (answer.status_code, answer.json()["code"]) == (422, "missing_audio")


async def test_a_crash_of_a_direct_route_is_a_problem(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = await client.post("/direct", content=b"crash")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert capsys.readouterr().err.count("http.crashed") == 1


@pytest.mark.parametrize(("path", "answered"), [("/direct?limit=5", "GET 5"), ("/items/it", "it")])
async def test_other_routes_are_fastapis(
    client: httpx.AsyncClient, path: str, answered: str
) -> None:
    assert (await client.get(path)).text == answered


@pytest.mark.parametrize("path", ["/guarded", "/depends"])
async def test_dependencies_are_called(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).json()["code"] == "missing_audio"


async def test_other_methods_and_addresses_are_refused(client: httpx.AsyncClient) -> None:
    assert (await client.put("/direct")).status_code == 405
    assert (await client.post("/nowhere")).json()["code"] == "no_such_route"
    assert (await client.get("/model")).json() == {"path": "/model"}
