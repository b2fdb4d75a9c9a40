"""CORS: web pages whose origins are listed may call the gateway from a browser.

There are no cookies: a page sends a key or a stream token, like every other client.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.http.problems import problem_response
from app.kit.origins import ANY_ORIGIN
from app.server_errors import CorsRefused

METHODS = ("GET", "HEAD", "POST", "DELETE")
ALLOWED_HEADERS = (
    "Authorization",
    "Baggage",
    "Cache-Control",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "Prefer",
    "Range",
    "Sentry-Trace",
    "Traceparent",
    "Tracestate",
    "X-Api-Key",
    "X-Request-Id",
    "X-Requested-With",
)
EXPOSED_HEADERS = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "Location",
    "Preference-Applied",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-Id",
)


class _Cors(CORSMiddleware):
    """Starlette's middleware, whose refusals are problems."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the answer to a preflight."""
        response = super().preflight_response(request_headers)
        if response.status_code != CorsRefused.status:
            return response
        refused = str(response.body, "utf-8").removeprefix("Disallowed CORS ")
        headers = {
            name: value
            for name, value in response.headers.items()
            if not name.startswith("content-")
        }
        return _RefusedPreflight(CorsRefused(f"{CorsRefused.public} Refused: {refused}."), headers)


class _RefusedPreflight(Response):
    """A problem with the id of the request that it answers."""

    def __init__(self, error: CorsRefused, headers: Mapping[str, str]) -> None:
        super().__init__(status_code=error.status)
        self._error, self._sent = error, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = scope["state"]["request_id"]
        await problem_response(self._error, request_id, self._sent)(scope, receive, send)


def cors_for(
    origins: Collection[str], headers: Collection[str] = ()
) -> Callable[[ASGIApp], ASGIApp] | None:
    """Return the middleware with which pages of these origins may read the answers."""
    if not origins:
        return None
    return partial(
        _Cors,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=(*ALLOWED_HEADERS, *headers),
        expose_headers=EXPOSED_HEADERS,
        # A public page may call a gateway in a private network only if its origin is listed.
        allow_private_network=ANY_ORIGIN not in origins,
    )
