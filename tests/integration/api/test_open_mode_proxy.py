"""Without keys, a request through a proxy is not a request from localhost."""

import pytest

from tests.support.gateway import Gateway, bearing, code_of

pytestmark = pytest.mark.anyio
PROXIED = pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.7"},
        {"x-forwarded-for": "127.0.0.1"},
        {"X-Forwarded-For": ""},
        {"Via": "1.1 proxy"},
        {"Forwarded": "for=203.0.113.7"},
        {"X-Forwarded-Host": "localhost"},
        {"X-Real-IP": "203.0.113.7"},
        {"X-Forwarded-Proto": "https"},
        {"CF-Connecting-IP": "203.0.113.7"},
        {"True-Client-IP": "203.0.113.7"},
        {"X-Client-IP": "203.0.113.7"},
    ],
)


@PROXIED
async def test_a_proxied_request_without_a_key_is_rejected(
    gateway: Gateway, recording: bytes, headers: dict[str, str]
) -> None:
    for path in ("/v1/models", "/v1/transcriptions", "/v1/usage", "/v1/costs"):
        response = await gateway.client.get(path, headers=headers)
        assert code_of(response) == (403, "origin_not_allowed")
    files = {"file": ("a.wav", recording)}
    response = await gateway.client.post("/v1/transcriptions", files=files, headers=headers)
    assert code_of(response) == (403, "origin_not_allowed")
    assert gateway.blobs() == []


@PROXIED
async def test_a_proxied_request_with_a_key_is_accepted(
    gateway: Gateway, headers: dict[str, str]
) -> None:
    key = await gateway.key()
    response = await gateway.client.get("/v1/models", headers=headers | bearing(key))
    assert response.status_code == 200
    response = await gateway.client.get("/v1/models", headers=headers)
    assert code_of(response) == (401, "key_missing")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_page_of_another_origin_is_rejected_without_a_key(
    gateway: Gateway, site: str
) -> None:
    """ATTACKS L6: images and scripts of any page, and pages of other ports of this machine."""
    response = await gateway.client.get("/v1/models", headers={"Sec-Fetch-Site": site})
    assert code_of(response) == (403, "origin_not_allowed")
    assert response.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("site", ["same-origin", "none"])
async def test_the_gateways_own_pages_are_accepted(gateway: Gateway, site: str) -> None:
    """ATTACKS L6: /docs calls the gateway from its own origin."""
    response = await gateway.client.get("/v1/models", headers={"Sec-Fetch-Site": site})
    assert response.status_code == 200
