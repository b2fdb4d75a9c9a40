"""Environment variables of the HTTP client: proxies and certificates. A wrong one is named."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

import httpx

_PROXY_VARIABLE = re.compile(r"(http|https|all)_proxy", re.IGNORECASE)
_SOCKS = frozenset({"socks5", "socks5h"})


class NetworkEnvironmentError(ValueError):
    """A variable that the HTTP client reads is wrong; the message names it."""


def environment_fault() -> str:
    """Return a sentence about the first wrong variable, or "" if the HTTP client can be used."""
    for variable, value in sorted(os.environ.items()):
        if value and _PROXY_VARIABLE.fullmatch(variable) and (fault := _proxy_fault(value)):
            return f"{variable} {fault}."
    for variable, exists in (("SSL_CERT_FILE", Path.is_file), ("SSL_CERT_DIR", Path.is_dir)):
        value = os.environ.get(variable, "")
        if value and not exists(Path(value)):
            return f"{variable} names {value}, which does not exist: correct it or unset it."
    try:
        httpx.AsyncClient()
    except Exception as error:  # noqa: BLE001 - of several libraries below httpx
        variables = "HTTPS_PROXY, ALL_PROXY, NO_PROXY and SSL_CERT_FILE"
        return f"The HTTP client cannot be used ({type(error).__name__}): check {variables}."
    return ""


def _proxy_fault(value: str) -> str:
    """Return what is wrong with the address of a proxy, as the end of a sentence."""
    url = value if "://" in value else f"http://{value}"
    scheme = url.partition("://")[0].lower()
    if scheme in _SOCKS and find_spec("socksio") is None:
        return (
            "is a SOCKS proxy, which needs a package that is not installed: run "
            "`pip install 'httpx[socks]'`, or set it to an http:// proxy, or unset it"
        )
    if scheme == "socks":
        return "begins with socks://: write socks5:// or http://, or unset it"
    try:
        is_valid = bool(httpx.Proxy(url).url.host)
    except (ValueError, httpx.InvalidURL):
        is_valid = False
    return "" if is_valid else "is not the address of a proxy, such as http://127.0.0.1:7890"
