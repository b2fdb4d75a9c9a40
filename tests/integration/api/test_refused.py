"""Rejected requests: each has a code of its own, and nothing of it is stored.

Covers: app.kit.text, app.speech.members
"""

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest

from app.audio.tables import audio
from app.billing.tables import ledger_line
from app.jobs.tables import event, transcription
from tests.support.gateway import Gateway, code_of

pytestmark = pytest.mark.anyio
PATH = "/v1/transcriptions"
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
JSON = {"Content-Type": "application/json"}


async def assert_nothing_is_left(gateway: Gateway) -> None:
    for table in (transcription, audio, ledger_line, event):
        assert await gateway.rows(table) == []
    assert gateway.blobs() == []
    assert gateway.engine.calls == []


async def refused(gateway: Gateway, response: httpx.Response) -> tuple[int, str]:
    await assert_nothing_is_left(gateway)
    return code_of(response)


def inline(recording: bytes, **options: Any) -> dict[str, Any]:
    return {"audio": "data:;base64," + base64.b64encode(recording).decode(), **options}


async def test_a_form_without_a_file_is_missing_audio(gateway: Gateway) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="language"\r\n\r\nen\r\n--x--\r\n'
    response = await gateway.client.post(PATH, content=body, headers=FORM)
    assert await refused(gateway, response) == (422, "missing_audio")


async def test_a_file_in_a_field_of_another_name(gateway: Gateway, recording: bytes) -> None:
    response = await gateway.client.post(PATH, files={"audio": ("a.wav", recording)})
    assert await refused(gateway, response) == (422, "missing_audio")


async def test_two_files_are_several_files(gateway: Gateway, recording: bytes) -> None:
    files = [("file", ("a.wav", recording)), ("file", ("b.wav", recording))]
    response = await gateway.client.post(PATH, files=files)
    assert await refused(gateway, response) == (422, "several_files")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_audio"),
        (b"just some words, renamed", "undecodable"),
        (b"ID3\x04" + bytes(2_000), "undecodable"),
        (b"#EXTM3U\nhttp://127.0.0.1/a.ts\n", "undecodable"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), "no_audio_stream"),
    ],
)
async def test_a_file_without_audio_is_rejected(
    gateway: Gateway, content: bytes, code: str
) -> None:
    response = await gateway.send(content, name="speech.mp3")
    assert await refused(gateway, response) == (422, code)
    response = await gateway.client.post(PATH, json=inline(content))
    assert await refused(gateway, response) == (422, code)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("language", "not a language"),
        ("language_hints", "en,zh,ja,ko,fr"),
        ("enable_itn", "perhaps"),
        ("sample_rate", "fast"),
        ("sample_rate", "0"),
        ("wait", "-1"),
        ("wait", "3601"),
        ("mode", "whenever"),
        ("timestamp_granularities", "sentence"),
        ("include", "everything"),
        ("reference", "x" * 201),
        ("metadata", "not json"),
        ("metadata", '{"a": 1}'),
        ("model", "x" * 101),
    ],
)
async def test_an_option_of_the_wrong_kind(
    gateway: Gateway, recording: bytes, option: str, value: str
) -> None:
    response = await gateway.send(recording, **{option: value})
    assert await refused(gateway, response) == (422, "invalid_parameter")
    body = response.json()
    assert body["parameter"] == option
    assert f"`{option}` must be" in body["detail"]
    assert value not in response.text or value in {"0", "-1", "en,zh,ja,ko,fr"}


async def test_the_error_of_an_unknown_model_lists_known_models(
    gateway: Gateway, recording: bytes
) -> None:
    response = await gateway.send(recording, model="nobody/nothing")
    assert await refused(gateway, response) == (422, "unknown_model")
    assert "scripted/echo" in response.json()["detail"]


async def test_a_model_whose_engine_is_switched_off(gateway: Gateway, recording: bytes) -> None:
    response = await gateway.send(recording, model="local/base")
    assert await refused(gateway, response) == (503, "engine_disabled")
    assert not response.json()["retryable"]
    assert "GATEWAY_LOCAL__ENABLED" in response.json()["detail"]


async def test_a_model_without_a_price(gateway: Gateway, recording: bytes) -> None:
    response = await gateway.send(recording, model="scripted/unpriced")
    assert await refused(gateway, response) == (503, "price_unknown")


async def test_a_context_longer_than_the_model_takes(gateway: Gateway, recording: bytes) -> None:
    response = await gateway.send(recording, context="word " * 51)
    assert await refused(gateway, response) == (422, "context_too_long")
    assert response.json()["max_tokens"] == 50


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ({"url": "http://10.0.0.1/a.mp3"}, "url_not_allowed"),
        ({"audio": "https://127.1/a.mp3"}, "url_not_allowed"),
        ({"url": "https://[::ffff:a9fe:a9fe]/a.mp3"}, "url_not_allowed"),
        ({"url": "https://u:p@example.org/a.mp3"}, "url_not_allowed"),
        ({"url": "https://example.org:22/a.mp3"}, "url_not_allowed"),
        ({"url": "ftp://example.org/a.mp3"}, "url_not_allowed"),
        ({"url": "https://example.org/a", "audio": "data:,x"}, "several_files"),
        ({"url": ["https://example.org/a"]}, "several_files"),
        ({"url": 7}, "invalid_parameter"),
        ({"audio": 7}, "invalid_parameter"),
        ({"audio": "data:;base64,@@@"}, "invalid_parameter"),
        ({}, "missing_audio"),
    ],
)
async def test_json_without_a_recording_in_it(
    gateway: Gateway, field: dict[str, Any], code: str
) -> None:
    response = await gateway.client.post(PATH, json=field)
    assert await refused(gateway, response) == (422, code)


@pytest.mark.parametrize("kind", ["text/plain", "audio/wav", "application/x-www-form-urlencoded"])
async def test_a_body_of_another_kind(gateway: Gateway, recording: bytes, kind: str) -> None:
    headers = {"Content-Type": kind}
    response = await gateway.client.post(PATH, content=recording, headers=headers)
    assert await refused(gateway, response) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (FORM, b"nothing like a form"),
        (FORM, b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nRIFF'),
        (FORM, b"--x\r\nContent-Disposition: form-data\r\n\r\nx\r\n--x--\r\n"),
        ({"Content-Type": "multipart/form-data"}, b"--x--"),
        (JSON, b'{"audio": "data'),
        (JSON, b"[]"),
        (JSON, b'{"audio": NaN}'),
        (JSON, b""),
    ],
)
async def test_a_damaged_body_is_malformed(
    gateway: Gateway, headers: dict[str, str], body: bytes
) -> None:
    response = await gateway.client.post(PATH, content=body, headers=headers)
    assert await refused(gateway, response) == (400, "malformed_body")


@pytest.mark.settings(audio={"max_upload_bytes": 10_000})
async def test_a_file_above_the_size_limit_is_rejected(gateway: Gateway, recording: bytes) -> None:
    response = await gateway.send(recording)
    assert await refused(gateway, response) == (413, "audio_too_large")
    assert response.json()["max_bytes"] == 10_000


@pytest.mark.settings(audio={"max_inline_bytes": 10_000})
async def test_a_json_body_above_the_size_limit_is_rejected(
    gateway: Gateway, recording: bytes
) -> None:
    response = await gateway.client.post(PATH, json=inline(recording))
    assert await refused(gateway, response) == (413, "audio_too_large")
    assert "multipart/form-data" in response.json()["detail"]


@pytest.mark.settings(audio={"max_seconds": 1})
async def test_audio_above_the_length_limit_is_rejected(gateway: Gateway, recording: bytes) -> None:
    response = await gateway.send(recording)
    assert await refused(gateway, response) == (422, "audio_too_long")


@pytest.mark.settings(audio={"min_free_bytes": 1 << 60})
async def test_a_disk_that_is_nearly_full(gateway: Gateway, recording: bytes) -> None:
    response = await gateway.send(recording)
    assert await refused(gateway, response) == (507, "storage_full")
    assert response.json()["retryable"] is True
    readiness = await gateway.get("/readyz")
    assert readiness.status_code == 503
    assert [check["name"] for check in readiness.json()["checks"] if not check["ready"]] == [
        "store"
    ]


@pytest.mark.settings(jobs={"max_sync_callers": 2})
async def test_more_jobs_than_may_wait(gateway: Gateway, recording: bytes) -> None:
    gateway.engine.gate = asyncio.Event()
    accepted = [await gateway.send(recording, wait="0") for _ in range(2)]
    response = await gateway.send(recording, wait="0")
    assert code_of(response) == (429, "too_many_jobs")
    assert int(response.headers["retry-after"]) > 0
    assert len(await gateway.rows(transcription)) == 2
    assert len(gateway.blobs()) == 1
    gateway.engine.gate.set()
    for one in accepted:
        assert (await gateway.ended(one.json()["id"]))["status"] == "completed"
    assert (await gateway.send(recording)).status_code == 200


async def test_a_gateway_that_shuts_down_rejects_requests(
    gateway: Gateway, recording: bytes
) -> None:
    gateway.app.state.begin_shutdown()
    response = await gateway.send(recording)
    assert await refused(gateway, response) == (503, "shutting_down")
    assert "retry-after" in response.headers


async def test_a_problem_contains_no_internal_details(gateway: Gateway, recording: bytes) -> None:
    responses = [
        await gateway.send(recording, name="canary.wav", language="canary!"),
        await gateway.send(b"canary " * 20, name="canary.wav"),
        await gateway.client.post(PATH, json={"audio": "canary"}),
        await gateway.client.post(PATH, content=b'{"canary', headers=JSON),
        await gateway.client.get(f"{PATH}/canary"),
        await gateway.client.get(PATH, params={"cursor": "canary", "limit": "canary"}),
        await gateway.client.get("/canary"),
        await gateway.client.get(PATH, headers={"Authorization": "Bearer canary"}),
    ]
    for response in responses:
        assert 400 <= response.status_code < 500
        code_of(response)
        assert "canary" not in response.text


async def test_a_request_keeps_the_id_its_caller_gave_it(gateway: Gateway) -> None:
    response = await gateway.client.get("/nowhere", headers={"X-Request-Id": "mine-17"})
    assert response.json()["request_id"] == response.headers["x-request-id"] == "mine-17"


@pytest.mark.settings(fetch={"enabled": False})
async def test_a_url_is_rejected_if_fetching_is_disabled(gateway: Gateway) -> None:
    response = await gateway.client.post(PATH, json={"url": "https://example.org/a.mp3"})
    assert await refused(gateway, response) == (422, "url_not_allowed")
    assert "Upload the file" in response.json()["detail"]


async def test_a_url_and_a_file_are_several_files(gateway: Gateway, recording: bytes) -> None:
    response = await gateway.send(recording, url="https://example.org/a.mp3")
    assert await refused(gateway, response) == (422, "several_files")


@pytest.mark.parametrize(
    ("body", "meant"),
    [
        (
            {"file_url": "https://example.org/a.mp3"},
            "`file_url` is not a known member. Did you mean `url`?",
        ),
        ({"file_urls": ["https://example.org/a.mp3"]}, "Did you mean `url`?"),
        ({"uri": "https://example.org/a.mp3"}, "Did you mean `url`?"),
        ({"file": "UklGRg=="}, "Did you mean `audio`?"),
        ({"model": "m", "input": {"messages": []}}, "`input` is not a known member."),
    ],
)
async def test_json_without_audio_names_its_unknown_members(
    gateway: Gateway, body: dict[str, Any], meant: str
) -> None:
    """CASES 15: the answer spoke of the form field only."""
    body = {name: value for name, value in body.items() if name != "model"}
    for path in (PATH, "/v1/estimates"):
        response = await gateway.client.post(path, json=body)
        assert await refused(gateway, response) == (422, "missing_audio")
        assert meant in response.json()["detail"]


@pytest.mark.parametrize(
    "value",
    ['{"a": NaN}', '{"a": Infinity}', '{"a": 1e999}', '{"a": "\\u0000"}', '{"a": "\\ud800"}']
    + ['{"a": ' + "[" * depth + "]" * depth + "}" for depth in (144, 956)],
)
async def test_a_filter_that_cannot_be_stored_is_refused(
    gateway: Gateway, recording: bytes, value: str
) -> None:
    """ATTACKS M6, L3: 500, or `NaN` on the provider's wire."""
    response = await gateway.send(recording, special_word_filter=value)
    assert await refused(gateway, response) == (422, "invalid_parameter")
    body = json.dumps(inline(recording)).replace("{", '{"special_word_filter": ' + value + ", ", 1)
    response = await gateway.client.post(PATH, content=body, headers=JSON)
    assert await refused(gateway, response) == (400, "malformed_body")


async def test_many_unknown_options_are_counted(gateway: Gateway, recording: bytes) -> None:
    """ATTACKS H6: each was stored as a warning, without limit."""
    response = await gateway.client.post(
        PATH, json=inline(recording, **{f"unknown{n}": n for n in range(90)})
    )
    warnings = response.json()["warnings"]
    assert len([one for one in warnings if one["code"] == "unknown_option"]) == 21
    assert "70 more options" in warnings[20]["detail"]
    many = inline(recording, **{f"unknown{n}": n for n in range(200)})
    response = await gateway.client.post(PATH, json=many)
    assert code_of(response) == (400, "malformed_body")
