"""May a stranger's URL be followed, as far as can be seen of it? Names are not looked up here.

The URL is read by the parser whose reading is connected to later, so there are no two readings.
"""

import re
from dataclasses import dataclass

import httpx

from app.net.addresses import AddressRefusedError, Network, judge, literal_of

MAX_URL_CHARS = 8192
DEFAULT_PORTS = {"https": 443, "http": 80}
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.ASCII)

Url = httpx.URL


@dataclass(frozen=True, slots=True)
class Rules:
    """Where strangers' URLs may lead; `allowed` networks are let through besides public ones."""

    schemes: frozenset[str]
    ports: frozenset[int]
    allowed: tuple[Network, ...] = ()


class UrlRefusedError(Exception):
    """The URL may not be followed. The words are for its sender and hold nothing of it."""


def judge_url(text: str, rules: Rules) -> Url:
    """Return the URL as it will be requested. Raises UrlRefusedError."""
    url = _parsed(text)
    if url.scheme not in rules.schemes:
        schemes = " or ".join(f"{scheme}://" for scheme in sorted(rules.schemes, reverse=True))
        raise UrlRefusedError(f"Only {schemes} URLs are fetched.")
    if url.userinfo:
        raise UrlRefusedError("A URL with a user name or a password in it is not fetched.")
    _judge_host(url.raw_host.decode("ascii"), rules)
    if (url.port or DEFAULT_PORTS[url.scheme]) not in rules.ports:
        ports = ", ".join(map(str, sorted(rules.ports)))
        raise UrlRefusedError(f"The URL's port is not allowed here; these are: {ports}.")
    return url


def _parsed(text: str) -> Url:
    if len(text) > MAX_URL_CHARS:
        raise UrlRefusedError(f"The URL is longer than {MAX_URL_CHARS:,} characters.")
    try:
        return httpx.URL(text.strip())
    except (httpx.InvalidURL, ValueError):  # its words repeat the URL
        raise UrlRefusedError("This is not a valid URL.") from None


def _judge_host(host: str, rules: Rules) -> None:
    try:
        literal = literal_of(host)
        if literal is not None:
            judge(literal, rules.allowed)
        elif not _NAME.fullmatch(host.lower()):
            raise UrlRefusedError("The URL has no valid host name.")
    except AddressRefusedError:
        raise UrlRefusedError(
            "The URL leads to an address that is not public; such are not fetched."
        ) from None


_NOBODYS = (".local", ".localhost", ".internal", ".intranet", ".lan", ".home.arpa", ".test")
_EVERYBODYS = Rules(frozenset({"http", "https"}), frozenset({80, 443}))


def is_public(text: str) -> bool:
    """Tell whether somebody far away could read this URL, as far as that can be seen of it.

    Addresses that only the operator's own settings let through are not, and neither are names
    that mean something inside a network alone.
    """
    try:
        url = judge_url(text, _EVERYBODYS)
    except UrlRefusedError:
        return False
    name = url.host.lower().removesuffix(".")
    if literal_of(name) is not None:
        return True
    return "." in name and not name.endswith(_NOBODYS)
