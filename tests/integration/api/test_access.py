"""Access: on localhost no key is needed until the first key exists; then every request needs one.

Covers: app.access.keys, app.access.loopback, app.access.principal, app.access.principals,
app.api.auth, app.kit.origins, app.kit.secrets
"""

import asyncio
from datetime import timedelta

import pytest

from app.access.keys import revoke_key
from app.access.principal import Scope
from app.access.principals import REMEMBERED_FOR
from app.access.tables import api_key
from app.billing.tables import ledger_line
from app.jobs.tables import transcription
from app.kit.clock import utc_now
from app.kit.secrets import mint_key
from tests.support.gateway import Gateway, bearing, code_of

pytestmark = pytest.mark.anyio
PATH = "/v1/transcriptions"
NEEDED = {
    "/v1/transcriptions": Scope.READ,
    "/v1/transcriptions/tr_" + "0" * 32: Scope.READ,
    "/v1/transcriptions/tr_" + "0" * 32 + "/transcript": Scope.READ,
    "/v1/transcriptions/tr_" + "0" * 32 + "/audio": Scope.READ,
    "/v1/models": Scope.READ,
    "/v1/usage": Scope.USAGE,
    "/v1/costs": Scope.USAGE,
}


async def test_on_loopback_no_key_is_needed_until_one_exists(
    gateway: Gateway, recording: bytes
) -> None:
    assert (await gateway.send(recording)).status_code == 200
    key = await gateway.key()
    response = await gateway.send(recording)
    assert code_of(response) == (401, "key_missing")
    assert response.headers["www-authenticate"] == "Bearer"
    assert (await gateway.send(recording, key=key)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "10.0.0.1:8000"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1.evil.example"},
    ],
)
async def test_without_keys_a_page_of_another_origin_is_rejected(
    gateway: Gateway, recording: bytes, headers: dict[str, str]
) -> None:
    response = await gateway.client.post(PATH, files={"file": ("a", recording)}, headers=headers)
    assert code_of(response) == (403, "origin_not_allowed")
    assert code_of(await gateway.client.get("/v1/models", headers=headers))[0] == 403
    assert gateway.blobs() == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:8000"},
        {"Host": "[::1]:8000"},
        {"Host": "127.0.0.1"},
        {"Origin": "http://localhost:5173"},
    ],
)
async def test_without_keys_every_loopback_name_is_accepted(
    gateway: Gateway, headers: dict[str, str]
) -> None:
    assert (await gateway.client.get("/v1/models", headers=headers)).status_code == 200


@pytest.mark.settings(server={"cors_origins": ["https://app.example", "*"]})
async def test_without_keys_a_listed_origin_is_accepted(gateway: Gateway) -> None:
    page, star = {"Origin": "https://app.example"}, {"Origin": "https://evil.example"}
    assert (await gateway.client.get("/v1/models", headers=page)).status_code == 200
    for headers in (star, {"Origin": "null"}, {"Origin": "*"}, page | {"Host": "app.example"}):
        response = await gateway.client.get("/v1/models", headers=headers)
        assert code_of(response) == (403, "origin_not_allowed")
    key = await gateway.key()
    response = await gateway.client.get("/v1/models", headers=page)
    assert code_of(response) == (401, "key_missing")
    assert response.headers["access-control-allow-origin"] == "*"
    response = await gateway.client.get("/v1/models", headers=star | bearing(key))
    assert response.status_code == 200


async def test_without_the_setting_no_page_reads_anything(gateway: Gateway) -> None:
    for origin, status in (("https://app.example", 403), ("http://localhost:5173", 200)):
        response = await gateway.client.get("/v1/models", headers={"Origin": origin})
        assert response.status_code == status
        assert not [name for name in response.headers if name.startswith("access-control")]


async def test_with_a_key_every_host_header_is_accepted(gateway: Gateway) -> None:
    headers = {"Host": "asr.example", "Authorization": f"Bearer {await gateway.key()}"}
    assert (await gateway.client.get("/v1/models", headers=headers)).status_code == 200


@pytest.mark.settings(server={"host": "0.0.0.0"})  # noqa: S104
async def test_off_loopback_a_key_is_always_needed(gateway: Gateway) -> None:
    assert code_of(await gateway.get("/v1/models")) == (401, "key_missing")


async def test_an_invalid_key_is_rejected(gateway: Gateway, recording: bytes) -> None:
    keys = {
        "unknown": mint_key(),
        "forged": (await gateway.key())[:-1] + "!",
        "noise": "noise-and-no-key",
        "expired": await gateway.key(lives=timedelta(seconds=-1)),
        "revoked": await gateway.key(revoked=True),
    }
    for what, key in keys.items():
        assert code_of(await gateway.send(recording, key=key)) == (401, "key_invalid"), what
        assert key not in str(await gateway.rows(api_key))
    assert gateway.blobs() == []


async def test_a_key_revoked_in_another_process_creates_no_job_although_it_is_cached(
    gateway: Gateway, recording: bytes
) -> None:
    """Another process revokes the key just after this process found it valid."""
    key = await gateway.key()
    assert (await gateway.send(recording, key=key)).status_code == 200
    jobs, lines = await gateway.rows(transcription), await gateway.rows(ledger_line)
    assert (await gateway.get(PATH, key=key)).status_code == 200
    (row,) = await gateway.rows(api_key)
    await gateway.services.db.write(revoke_key, row["id"], now=utc_now())
    assert code_of(await gateway.send(recording, key=key)) == (401, "key_invalid")
    assert await gateway.rows(transcription) == jobs
    assert await gateway.rows(ledger_line) == lines
    path = f"{PATH}/{jobs[0]['id']}"
    refused = await gateway.client.delete(path, headers=bearing(key))
    assert code_of(refused) == (401, "key_invalid")
    assert code_of(await gateway.get(path, key=key)) == (401, "key_invalid")


async def test_a_key_revoked_in_another_process_reads_for_at_most_a_second(
    gateway: Gateway,
) -> None:
    key = await gateway.key()
    assert (await gateway.get(PATH, key=key)).status_code == 200
    (row,) = await gateway.rows(api_key)
    await gateway.services.db.write(revoke_key, row["id"], now=utc_now())
    await asyncio.sleep(REMEMBERED_FOR.total_seconds())
    assert code_of(await gateway.get(PATH, key=key)) == (401, "key_invalid")


async def test_a_key_must_come_as_a_bearer(gateway: Gateway) -> None:
    key = await gateway.key()
    for header in (f"Basic {key}", key, "Bearer", ""):
        response = await gateway.client.get("/v1/models", headers={"Authorization": header})
        assert response.status_code == 401
    response = await gateway.client.get("/v1/models", headers={"Authorization": f"bearer  {key}"})
    assert response.status_code == 200


async def test_each_address_needs_its_scope(gateway: Gateway, recording: bytes) -> None:
    keys = {scope: await gateway.key(scope) for scope in Scope}
    for path, needed in NEEDED.items():
        for scope, key in keys.items():
            response = await gateway.get(path, key=key)
            assert (response.status_code == 403) is (scope is not needed), (path, scope)
    for scope, key in keys.items():
        response = await gateway.send(recording, key=key)
        assert response.status_code == (200 if scope is Scope.TRANSCRIBE else 403)
    assert code_of(await gateway.send(recording, key=keys[Scope.READ])) == (403, "scope_missing")


async def test_another_projects_transcription_does_not_exist(
    gateway: Gateway, recording: bytes
) -> None:
    mine, theirs = await gateway.key(project="mine"), await gateway.key(project="theirs")
    job = (await gateway.send(recording, key=mine)).json()["id"]
    for path in ("", "/transcript", "/audio"):
        response = await gateway.get(f"{PATH}/{job}{path}", key=theirs)
        assert code_of(response) == (404, "not_found")
        assert (await gateway.get(f"{PATH}/{job}{path}", key=mine)).status_code == 200
    headers = {"Authorization": f"Bearer {theirs}"}
    assert code_of(await gateway.client.delete(f"{PATH}/{job}", headers=headers))[0] == 404
    assert (await gateway.get(PATH, key=theirs)).json()["items"] == []
    assert (await gateway.get("/v1/costs", key=theirs)).json()["items"] == []
    assert len((await gateway.get("/v1/costs", key=mine)).json()["items"]) == 1


async def test_the_last_use_of_a_key_is_stored(gateway: Gateway) -> None:
    key = await gateway.key()
    assert (await gateway.rows(api_key))[0]["last_used_at"] is None
    await gateway.get("/v1/models", key=key)
    assert (await gateway.rows(api_key))[0]["last_used_at"] is not None


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/version", "/openapi.json"])
async def test_health_version_and_docs_need_no_key(gateway: Gateway, path: str) -> None:
    await gateway.key()
    assert (await gateway.get(path)).status_code == 200
