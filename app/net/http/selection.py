"""Opens the HTTP client that is right for an address."""

import ssl
from urllib.parse import urlsplit

import httpx

from app.net.client import CONNECT_SECONDS, MAX_CONNECTIONS, SILENCE_SECONDS, open_client
from app.net.connectivity import is_proxied
from app.net.http.direct_client import DEFAULT_PORTS, DirectClient
from app.net.http.exchange import HttpClient
from app.net.http.httpx_client import HttpxClient


def open_http_client(
    base_url: str,
    *,
    silence_seconds: float = SILENCE_SECONDS,
    max_connections: int = MAX_CONNECTIONS,
) -> HttpClient:
    """Return a client of `base_url`. Close it after use.

    That is the direct client, unless a proxy of the operator's variables is in between or the
    address has something that only httpx knows: a password, or a name that is not ASCII.
    """
    is_plain = base_url.isascii() and base_url.isprintable() and not {"@", "?", "#"} & set(base_url)
    try:
        parts = urlsplit(base_url)
        is_known = parts.scheme in DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_known = False
    if is_proxied(base_url) or not (is_plain and is_known):
        client = open_client(
            base_url=base_url, silence_seconds=silence_seconds, max_connections=max_connections
        )
        return HttpxClient(client)
    return DirectClient(
        base_url,
        connect_seconds=CONNECT_SECONDS,
        silence_seconds=silence_seconds,
        max_connections=max_connections,
        tls=_tls() if parts.scheme == "https" else None,
    )


def _tls() -> ssl.SSLContext:
    """Return a context that trusts the same authorities as httpx, SSL_CERT_FILE included."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
