"""POST /v1/transcriptions: requests and their answers.

Covers: app.api.services, app.api.v1.transcriptions, app.api.v1.request.receive, app.main
"""

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest

from app.audio.tables import audio
from app.jobs.tables import transcription, upstream_call
from tests.support.gateway import NANO_PER_SECOND, Gateway, code_of, speech

pytestmark = pytest.mark.anyio
PATH = "/v1/transcriptions"


def inline(recording: bytes, **options: Any) -> dict[str, Any]:
    return {"audio": "data:audio/wav;base64," + base64.b64encode(recording).decode(), **options}


def form(*parts: tuple[str, str | bytes]) -> tuple[bytes, dict[str, str]]:
    """Return a form with its parts in exactly this order; bytes are the file."""
    body = b""
    for name, value in parts:
        is_file = isinstance(value, bytes)
        body += b'--x\r\nContent-Disposition: form-data; name="%s"' % name.encode()
        body += b'; filename="a.wav"\r\n\r\n' if is_file else b"\r\n\r\n"
        body += (value if isinstance(value, bytes) else value.encode()) + b"\r\n"
    return body + b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


async def test_an_upload_is_transcribed_and_settled(gateway: Gateway, recording: bytes) -> None:
    response = await gateway.send(recording)
    assert response.status_code == 200
    body = response.json()
    assert (body["status"], body["text"], body["language"]) == ("completed", "heard", "en")
    assert body["usage"] == {"seconds": 2.0, "tokens": None, "estimated": False}
    assert body["cost"] == {"amount": "0.00044", "currency": "CNY", "nano": 2 * NANO_PER_SECOND}
    assert body["audio"]["seconds"] == 2.0
    assert body["audio"]["bytes"] == len(recording)
    assert (body["coverage"], body["progress"], body["warnings"]) == (1.0, 1.0, [])
    assert body["raw"] is None
    assert body == (await gateway.get(f"{PATH}/{body['id']}")).json()


async def test_a_data_uri_has_the_same_result(gateway: Gateway, recording: bytes) -> None:
    response = await gateway.client.post(PATH, json=inline(recording, language="en"))
    assert response.json()["text"] == "heard"
    assert gateway.engine.calls[0].language == "en"


@pytest.mark.parametrize("order", [1, -1])
async def test_options_may_come_before_or_after_the_file(
    gateway: Gateway, recording: bytes, order: int
) -> None:
    parts: list[tuple[str, str | bytes]] = [
        ("language", "en"),
        ("file", recording),
        ("reference", "r"),
    ]
    body, headers = form(*parts[::order])
    response = await gateway.client.post(PATH, content=body, headers=headers)
    assert response.json()["reference"] == "r"
    assert gateway.engine.calls[0].language == "en"


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, {"language": None, "context": None, "word_timestamps": False}),
        ({"language": "zh"}, {"language": "zh"}),
        ({"language": "en-US"}, {"language": "en"}),
        ({"language_hints": "zh"}, {"language": "zh"}),
        ({"language_hints[]": ["en"]}, {"language": "en"}),
        ({"context": "Ada Lovelace"}, {"context": "Ada Lovelace"}),
        ({"timestamp_granularities[]": ["segment", "word"]}, {"word_timestamps": True}),
        ({"timestamp_granularities": "word"}, {"word_timestamps": True}),
        ({"model": "scripted/short"}, {"model": "short"}),
        ({"mode": "sync", "strict": "false", "model": ""}, {"model": "echo"}),
    ],
)
async def test_options_are_passed_to_the_engine(
    gateway: Gateway, recording: bytes, options: dict[str, Any], asked: dict[str, Any]
) -> None:
    response = await gateway.send(recording, **options)
    assert response.status_code == 200
    assert response.json()["warnings"] == []
    request = gateway.engine.calls[0]
    assert {name: getattr(request, name) for name in asked} == asked


@pytest.mark.parametrize(
    ("options", "code", "option"),
    [
        ({"prompt": "x"}, "unknown_option", "prompt"),
        ({"enable_itn": "true"}, "option_ignored", "enable_itn"),
        ({"enable_lid": "true"}, "option_ignored", "enable_lid"),
        ({"sample_rate": "8000"}, "sample_rate_differs", "sample_rate"),
        ({"vocabulary_id": "v"}, "option_ignored", "vocabulary_id"),
        ({"disfluency_removal_enabled": "1"}, "option_ignored", "disfluency_removal_enabled"),
        ({"language": "xx"}, "option_ignored", "language"),
        ({"language_hints": ["en", "zh"]}, "option_ignored", "language_hints"),
        (
            {"model": "scripted/short", "timestamp_granularities": "word"},
            "option_ignored",
            "timestamp_granularities",
        ),
    ],
)
async def test_unsupported_options_are_warnings_and_with_strict_errors(
    gateway: Gateway, recording: bytes, options: dict[str, Any], code: str, option: str
) -> None:
    (warning,) = (await gateway.send(recording, **options)).json()["warnings"]
    assert (warning["code"], warning["option"]) == (code, option)
    refused = await gateway.send(recording, strict="true", **options)
    assert code_of(refused) == (422, "option_not_supported")
    assert refused.json()["parameter"] == option
    assert len(await gateway.rows(transcription)) == 1


async def test_a_correct_sample_rate_has_no_warning(gateway: Gateway, recording: bytes) -> None:
    response = await gateway.send(recording, sample_rate="16000", strict="true")
    assert response.json()["warnings"] == []


async def test_wait_0_is_answered_with_202(gateway: Gateway, recording: bytes) -> None:
    gateway.engine.gate = asyncio.Event()
    response = await gateway.send(recording, wait="0")
    body = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"{PATH}/{body['id']}"
    assert int(response.headers["retry-after"]) >= 1
    assert body["status"] in {"queued", "processing"}
    assert (body["text"], body["completed_at"]) == (None, None)
    gateway.engine.gate.set()
    assert (await gateway.ended(body["id"]))["text"] == "heard"
    later = await gateway.get(response.headers["location"])
    assert later.json()["status"] == "completed"


async def test_a_job_continues_after_the_wait(gateway: Gateway, recording: bytes) -> None:
    gateway.engine.delay_seconds = 1.5
    response = await gateway.send(recording, wait="1")
    assert response.status_code == 202
    assert (await gateway.ended(response.json()["id"]))["status"] == "completed"


async def test_the_same_recording_twice_is_two_jobs_and_one_audio(
    gateway: Gateway, recording: bytes
) -> None:
    one, two = (await gateway.send(recording)).json(), (await gateway.send(recording)).json()
    assert one["id"] != two["id"]
    assert one["audio"]["id"] == two["audio"]["id"]
    assert len(gateway.blobs()) == len(await gateway.rows(audio)) == 1
    other = (await gateway.send(speech(2, start=3))).json()
    assert other["audio"]["id"] != one["audio"]["id"]


async def test_the_same_audio_of_two_projects_is_stored_twice(
    gateway: Gateway, recording: bytes
) -> None:
    for project in ("one", "two"):
        key = await gateway.key(project=project)
        assert (await gateway.send(recording, key=key)).status_code == 200
    assert len(gateway.blobs()) == 2


async def test_include_raw_returns_the_engines_answers(gateway: Gateway, recording: bytes) -> None:
    body = (await gateway.send(recording, include="raw")).json()
    assert body["raw"] == [{"text": "heard"}]
    assert (await gateway.get(f"{PATH}/{body['id']}")).json()["raw"] == [{"text": "heard"}]


async def test_reference_and_metadata_are_returned_unchanged(
    gateway: Gateway, recording: bytes
) -> None:
    notes = {"team": "support", "naïve ☂": '{"a": 1}', "empty": ""}
    sent = await gateway.send(recording, reference="call 17/ä", metadata=json.dumps(notes))
    other = await gateway.client.post(PATH, json=inline(recording, metadata=notes))
    for response in (sent, other):
        assert response.json()["metadata"] == notes
    assert sent.json()["reference"] == "call 17/ä"
    listed = (await gateway.get(PATH, reference="call 17/ä")).json()["items"]
    assert [item["id"] for item in listed] == [sent.json()["id"]]
    assert listed[0]["metadata"] == notes


async def test_long_audio_is_split_and_merged(gateway: Gateway) -> None:
    response = await gateway.send(speech(9, start=0), model="scripted/short")
    body = response.json()
    calls = await gateway.rows(upstream_call)
    assert body["plan"]["kind"] == "split"
    assert len(calls) >= 3
    assert body["text"].split() == ["heard"] * len(calls)
    assert body["usage"]["seconds"] == sum(call["usage"]["seconds"] for call in calls)
    assert body["cost"]["nano"] == round(body["usage"]["seconds"]) * NANO_PER_SECOND
    assert body["coverage"] == 1.0
    starts = [segment["start"] for segment in body["segments"]]
    assert starts == sorted(starts)


async def test_silence_costs_nothing(gateway: Gateway) -> None:
    silence = bytearray(speech(2))
    silence[44:] = bytes(len(silence) - 44)
    body = (await gateway.send(bytes(silence))).json()
    assert (body["status"], body["text"], body["cost"]["nano"]) == ("completed", "", 0)
    assert gateway.engine.calls == []


async def test_concurrent_requests_are_each_answered_and_paid_once(
    gateway: Gateway, recording: bytes
) -> None:
    responses = await asyncio.gather(*(gateway.send(recording) for _ in range(12)))
    assert {response.status_code for response in responses} == {200}
    assert len({response.json()["id"] for response in responses}) == 12
    assert len(gateway.engine.calls) == 12


async def test_the_file_name_is_not_stored(gateway: Gateway, recording: bytes) -> None:
    response: httpx.Response = await gateway.send(recording, name="../../canary.mp3")
    assert response.json()["audio"]["format"] == "wav"
    assert "canary" not in response.text
    assert "canary" not in str(await gateway.rows(audio))
    assert not [path for path in gateway.blobs() if "canary" in str(path)]
