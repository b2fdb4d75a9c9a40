"""CORS: web pages whose origins are listed may call the gateway from a browser.

There are no cookies: a page sends a key or a stream token, like every other client.
"""

from collections.abc import Callable, Collection
from functools import partial

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from app.kit.origins import ANY_ORIGIN

METHODS = ("GET", "HEAD", "POST", "DELETE")
ALLOWED_HEADERS = (
    "Authorization",
    "Content-Type",
    "Last-Event-ID",
    "Prefer",
    "Range",
    "X-Request-Id",
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


def cors_for(origins: Collection[str]) -> Callable[[ASGIApp], ASGIApp] | None:
    """Return the middleware with which pages of these origins may read the answers."""
    if not origins:
        return None
    return partial(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=ALLOWED_HEADERS,
        expose_headers=EXPOSED_HEADERS,
        # A public page may call a gateway in a private network only if its origin is listed.
        allow_private_network=ANY_ORIGIN not in origins,
    )
