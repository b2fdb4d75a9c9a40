"""Authentication of a request by its headers alone, before any byte of the body is read."""

from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from app.access.keys import any_key
from app.access.loopback import is_loopback
from app.access.principal import ALL_SCOPES, Principal, Scope
from app.api.services import Services, services_of
from app.errors import DatabaseUnavailable, KeyInvalid, KeyMissing, OriginNotAllowed, ScopeMissing
from app.kit.origins import ANY_ORIGIN

# A proxy on this machine forwards requests of clients that are not on loopback.
PROXY_HEADERS = (
    *("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"),
    *("x-forwarded-port", "x-forwarded-server", "x-real-ip", "x-client-ip", "true-client-ip"),
    *("cf-connecting-ip", "fastly-client-ip", "x-cluster-client-ip", "x-original-forwarded-for"),
)
OWN_SITES = ("same-origin", "none")  # of Sec-Fetch-Site: our own pages, or no page at all

bearer = HTTPBearer(
    auto_error=False,
    description="An API key from `asr-gateway keys create`. Requests to localhost need none until "
    "the first key exists.",
)


async def caller(request: Request, _scheme: Annotated[object, Security(bearer)]) -> Principal:
    """Return the caller, by a key that is valid now.

    Raises KeyMissing, KeyInvalid or OriginNotAllowed.
    """
    services = services_of(request)
    secret = _secret_of(request)
    return await (services.principals.find(secret) if secret else _without_key(request, services))


async def recalled_caller(
    request: Request, _scheme: Annotated[object, Security(bearer)]
) -> Principal:
    """Return the caller. The key was valid less than a second ago; see `Principals.find_cached`.

    Raises KeyMissing, KeyInvalid or OriginNotAllowed.
    """
    services = services_of(request)
    secret = _secret_of(request)
    return await (
        services.principals.find_cached(secret) if secret else _without_key(request, services)
    )


def may(
    scope: Scope, identify: Callable[..., Awaitable[Principal]] = caller
) -> Callable[..., Awaitable[Principal]]:
    """Return a dependency that returns the caller and requires this scope.

    The dependency raises ScopeMissing, and the errors of `identify`.
    """

    async def allowed(principal: Annotated[Principal, Depends(identify)]) -> Principal:
        principal.require(scope)
        return principal

    return allowed


async def submitter(request: Request) -> Principal:
    """Return the caller of a request that creates a job; its transaction checks the key again.

    Raises the errors of `recalled_caller`, and ScopeMissing.
    """
    principal = await recalled_caller(request, None)
    principal.require(Scope.TRANSCRIBE)
    return principal


def _secret_of(request: Request) -> str | None:
    """Return the bearer key of a request, None without the header. Raises KeyMissing."""
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, secret = header.partition(" ")
    if scheme.lower() != "bearer":
        raise KeyMissing
    return secret.strip()


async def _without_key(request: Request, services: Services) -> Principal:
    """Allow a caller without a key only on loopback, and only until the first key exists."""
    if not is_loopback(services.settings.server.host) or await services.db.read(any_key):
        raise KeyMissing
    if any(name in request.headers for name in PROXY_HEADERS):
        raise OriginNotAllowed
    # A web page, or a DNS name rebound to 127.0.0.1, can make a browser on this machine call us.
    # Such a request carries another Host or Origin.
    if not is_loopback(_host_of(f"//{request.headers.get('host', '')}")):
        raise OriginNotAllowed
    origin = request.headers.get("origin")
    listed = {*services.settings.server.cors_origins} - {ANY_ORIGIN}
    if origin is not None and origin not in listed and not is_loopback(_host_of(origin)):
        raise OriginNotAllowed
    # A page of another port of this machine, or an image or script of any page, names no origin
    # that tells; browsers say so here. Other clients do not send the header.
    if request.headers.get("sec-fetch-site", "none") not in OWN_SITES and origin not in listed:
        raise OriginNotAllowed
    return Principal(services.default_project, None, ALL_SCOPES)


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


Transcriber = Annotated[Principal, Depends(may(Scope.TRANSCRIBE))]
Reader = Annotated[Principal, Depends(may(Scope.READ, recalled_caller))]
Accountant = Annotated[Principal, Depends(may(Scope.USAGE, recalled_caller))]

AUTHENTICATED: list[dict[str, list[str]]] = [{bearer.scheme_name: []}]
"""The `security` of an operation in the OpenAPI document."""

AUTH_ERRORS = (KeyMissing, KeyInvalid, OriginNotAllowed, ScopeMissing, DatabaseUnavailable)
"""The errors of every route that needs a caller."""
