"""Checks a client's URL against the rules, without a name lookup.

The URL is parsed by httpx, which also makes the connection, so that there is only one reading.
"""

import re
from dataclasses import dataclass

import httpx

from app.net.addresses import AddressNotAllowedError, Network, address_in, check_ip_address

MAX_URL_CHARS = 8192
DEFAULT_PORTS = {"https": 443, "http": 80}
NOT_PUBLIC = (
    "The URL leads to an address that is not public. Upload the file, or ask the operator to allow "
    "this network (GATEWAY_FETCH__ALLOW_ADDRESSES)."
)
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.ASCII)
_PRIVATE_NAMES = (
    ".local",
    ".localhost",
    ".internal",
    ".intranet",
    ".lan",
    ".home.arpa",
    ".test",
)

Url = httpx.URL


@dataclass(frozen=True, slots=True)
class UrlRules:
    """The URLs that are fetched. `allowed` networks are added to the public ones."""

    schemes: frozenset[str]
    ports: frozenset[int]
    allowed: tuple[Network, ...] = ()


_PUBLIC_RULES = UrlRules(frozenset({"http", "https"}), frozenset({80, 443}))


class UrlNotAllowedError(Exception):
    """The URL is not fetched. The message is for the client and repeats nothing of the URL."""


def check_url(text: str, rules: UrlRules) -> Url:
    """Return the URL as it will be requested. Raises UrlNotAllowedError."""
    if len(text) > MAX_URL_CHARS:
        raise UrlNotAllowedError(f"The URL is longer than {MAX_URL_CHARS:,} characters.")
    try:
        url = httpx.URL(text.strip())
    except (httpx.InvalidURL, ValueError):  # the message repeats the URL
        raise UrlNotAllowedError("This is not a valid URL.") from None
    if url.scheme not in rules.schemes:
        schemes = " or ".join(f"{scheme}://" for scheme in sorted(rules.schemes, reverse=True))
        raise UrlNotAllowedError(f"Only {schemes} URLs are fetched.")
    if url.userinfo:
        raise UrlNotAllowedError("A URL with a user name or a password is not fetched.")
    host = url.raw_host.decode("ascii")
    try:
        address = address_in(host)
        if address is not None:
            check_ip_address(address, rules.allowed)
    except AddressNotAllowedError:
        raise UrlNotAllowedError(NOT_PUBLIC) from None
    if address is None and not _NAME.fullmatch(host.lower()):
        raise UrlNotAllowedError("The URL has no valid host name.")
    if (url.port or DEFAULT_PORTS[url.scheme]) not in rules.ports:
        ports = ", ".join(map(str, sorted(rules.ports)))
        raise UrlNotAllowedError(f"The port of the URL is not allowed. Allowed ports: {ports}.")
    return url


def is_publicly_reachable(text: str) -> bool:
    """Return whether a server on the internet could fetch this URL, without a name lookup.

    The operator's `allowed` networks do not count, and neither do names of private networks.
    """
    try:
        url = check_url(text, _PUBLIC_RULES)
    except UrlNotAllowedError:
        return False
    name = url.host.lower().removesuffix(".")
    if address_in(name) is not None:
        return True
    return "." in name and not name.endswith(_PRIVATE_NAMES)
