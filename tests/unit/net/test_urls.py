"""URLs that a server on the internet could fetch.

Covers: app.net.urls
"""

import pytest

from app.net.urls import is_publicly_reachable


@pytest.mark.parametrize(
    "url", ["https://far.example/a", "http://8.8.8.8/a", "https://a.b:443/x?y"]
)
def test_public(url: str) -> None:
    assert is_publicly_reachable(url)


@pytest.mark.parametrize(
    "url",
    [
        *("https://127.0.0.1/a", "http://10.0.0.7/a", "http://[::1]/a", "http://2130706433/a"),
        *("https://localhost/a", "https://nas/a", "https://nas.local/a", "https://x.internal./a"),
        *("https://far.example:8443/a", "ftp://far.example/a", "https://u:p@far.example/a", "x"),
        "https://100.100.100.200/latest/meta-data",
    ],
)
def test_not_public(url: str) -> None:
    assert not is_publicly_reachable(url)
