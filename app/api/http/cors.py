"""Which web pages may call the gateway from a browser: none, until their origins are listed.

There are no cookies here: a page sends a key, or a stream token, or is refused like anyone else.
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
        # A page of the internet asks whether it may reach into this network: one by name may.
        allow_private_network=ANY_ORIGIN not in origins,
    )
