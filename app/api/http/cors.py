"""Which web pages may call the gateway from a browser: none, until their origins are listed.

There are no cookies here: a page sends a key, or a stream token, or is refused like anyone else.
"""

from collections.abc import Collection

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

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


def install_cors(app: FastAPI, origins: Collection[str]) -> None:
    """Let pages of these origins read the answers; without any, nothing is added."""
    if not origins:
        return
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=ALLOWED_HEADERS,
        expose_headers=EXPOSED_HEADERS,
        # A page of the internet asks whether it may reach into this network: one by name may.
        allow_private_network=ANY_ORIGIN not in origins,
    )
