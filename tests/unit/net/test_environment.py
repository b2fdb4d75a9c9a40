"""Wrong variables of the HTTP client are named in one sentence.

Covers: app.net.environment
"""

import importlib.util
from pathlib import Path

import pytest

from app.net.client import open_client
from app.net.environment import NetworkEnvironmentError, environment_fault

HAS_SOCKS = importlib.util.find_spec("socksio") is not None


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.skipif(HAS_SOCKS, reason="SOCKS works")
@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "HTTPS_PROXY"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_without_its_package_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    """CASES 3: the start died with a traceback of 73 lines."""
    monkeypatch.setenv(variable, f"{scheme}://user:canary@127.0.0.1:7890")
    with pytest.raises(NetworkEnvironmentError) as refused:
        open_client()
    assert str(refused.value) == environment_fault()
    assert environment_fault().startswith(f"{variable} is a SOCKS proxy, which needs a package")
    assert "canary" not in environment_fault()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:7890", "begins with socks://: write socks5://"),
        ("HTTPS_PROXY", "ftp://127.0.0.1", "is not the address of a proxy"),
        ("HTTPS_PROXY", "http://", "is not the address of a proxy"),
        ("HTTP_PROXY", "http://127.0.0.1:port", "is not the address of a proxy"),
        ("SSL_CERT_FILE", "/nope.pem", "names /nope.pem, which does not exist"),
        ("SSL_CERT_DIR", "/nope", "names /nope, which does not exist"),
    ],
)
def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert environment_fault().startswith(f"{variable} {said}")


def test_certificates_that_are_none_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert "SSL_CERT_FILE" in environment_fault()


@pytest.mark.parametrize("value", ["http://127.0.0.1:7890", "127.0.0.1:7890", ""])
def test_a_proxy_by_http_is_taken(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    assert environment_fault() == ""
