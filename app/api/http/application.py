"""The ASGI application: FastAPI inside RequestMiddleware, and a short way to simple routes."""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.http.body_rate import BodyRate
from app.api.http.head import HeadAsGet
from app.api.http.middleware import RequestMiddleware
from app.api.http.problems import EXPECTED, answer_expected

Endpoint = Callable[[Request], Awaitable[Response]]


class Application(FastAPI):
    """FastAPI with RequestMiddleware as its only middleware.

    That middleware answers crashes, so Starlette's own layer for them is left out, and with it
    those for telemetry and body limits of FastAPI, which are not used.
    """

    def __init__(
        self, *, rate: BodyRate, cors: Callable[[ASGIApp], ASGIApp] | None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._rate, self._cors = rate, cors

    def build_middleware_stack(self) -> ASGIApp:
        """Return the layers around the routes; called by Starlette before the first request."""
        handlers: Mapping[Any, Any] = self.exception_handlers
        by_fastapi = ExceptionMiddleware(AsyncExitStackMiddleware(self.router), handlers=handlers)
        by_method = HeadAsGet(DirectRoutes(self.routes, by_fastapi), self.routes)
        return RequestMiddleware(by_method, rate=self._rate, cors=self._cors)


class DirectRoutes:
    """Calls the endpoints that need none of FastAPI's work; all other requests go to `others`.

    FastAPI finds the route, parameters and dependencies of a request and checks the answer, which
    takes a tenth of the CPU time of a short transcription. An endpoint that takes the request alone
    and returns a Response has none of these. It is documented as every other route.

    A request with a query has more work: FastAPI's way checks its parameters. A path with a slash
    at its end is that without the slash.
    """

    def __init__(self, routes: Sequence[BaseRoute], others: ASGIApp) -> None:
        self._others = others
        self._paths = {getattr(route, "path", "") for route in routes}
        self._routes: dict[tuple[str, str], tuple[APIRoute, Endpoint]] = {
            (method, route.path): (route, route.endpoint)
            for route in routes
            if isinstance(route, APIRoute) and _takes_the_request_alone(route)
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path[-1:] == "/" and path not in self._paths:
            # A redirect would make many clients send a POST as a GET, or without its key.
            path = scope["path"] = path[:-1]
        found = self._routes.get((scope.get("method", ""), path))
        if found is None or scope.get("query_string"):
            await self._others(scope, receive, send)
            return
        scope["route"], endpoint = found
        request = Request(scope, receive, send)
        try:
            response = await endpoint(request)
        except EXPECTED as problem:
            response = answer_expected(request, problem)
        await response(scope, receive, send)


def _takes_the_request_alone(route: APIRoute) -> bool:
    signature = inspect.signature(route.endpoint)
    parameters = [parameter.annotation for parameter in signature.parameters.values()]
    takes_more = parameters != [Request] or route.dependencies or "{" in route.path
    return not takes_more and signature.return_annotation is Response
