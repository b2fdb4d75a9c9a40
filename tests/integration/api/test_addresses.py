"""Requests with odd addresses: query parameters, slashes and unknown routes.

Covers: app.api.http.head, app.api.http.known_query
"""

import asyncio
import base64
from typing import Any

import pytest

from app.jobs.tables import transcription
from tests.support.gateway import Gateway, code_of

pytestmark = pytest.mark.anyio
PATH = "/v1/transcriptions"


def inline(recording: bytes, **options: Any) -> dict[str, Any]:
    return {"audio": "data:;base64," + base64.b64encode(recording).decode(), **options}


async def test_options_in_the_query_are_options(gateway: Gateway, recording: bytes) -> None:
    """CASES 13: they were ignored in silence."""
    query = {"language": "en", "reference": "from the query", "metadata": '{"team": "support"}'}
    form = await gateway.client.post(PATH, params=query, files={"file": ("a.wav", recording)})
    other = await gateway.client.post(PATH, params=query, json=inline(recording))
    for answer in (form, other):
        assert answer.status_code == 200
        assert answer.json()["reference"] == "from the query"
        assert answer.json()["metadata"] == {"team": "support"}
    accepted = await gateway.client.post(PATH + "?mode=async", json=inline(recording))
    assert accepted.status_code == 202


async def test_lists_in_the_query(gateway: Gateway, recording: bytes) -> None:
    """CASES 13."""
    query = "?timestamp_granularities[]=segment&timestamp_granularities[]=word&include=raw"
    answer = await gateway.client.post(PATH + query, json=inline(recording))
    assert answer.status_code == 200
    assert answer.json()["raw"] is not None


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("tz=Europe/Berlin", "tz"),
        ("langauge=en", "Did you mean `language`?"),
        ("url=https://example.org/a.mp3", "in the body"),
        ("language=en&language=zh", "language"),
        ("page=2", "page"),
    ],
)
async def test_unknown_queries_of_a_post_are_refused(
    gateway: Gateway, recording: bytes, query: str, named: str
) -> None:
    """CASES 13."""
    for path in (PATH, "/v1/estimates"):
        answer = await gateway.client.post(f"{path}?{query}", json=inline(recording))
        assert code_of(answer) == (422, "invalid_parameter"), path
        assert named in answer.json()["detail"]
    assert await gateway.rows(transcription) == []
    assert gateway.blobs() == []


async def test_an_option_in_query_and_body_is_refused(gateway: Gateway, recording: bytes) -> None:
    """CASES 13."""
    for same in ("en", "zh"):
        answer = await gateway.client.post(
            PATH + "?language=en", files={"file": ("a.wav", recording)}, data={"language": same}
        )
        assert code_of(answer) == (422, "invalid_parameter")
        assert "only once" in answer.json()["detail"]
    assert gateway.blobs() == []


async def test_the_length_of_an_estimate_may_be_in_the_query(gateway: Gateway) -> None:
    """CASES 13."""
    answer = await gateway.client.post("/v1/estimates?seconds=60", json={})
    assert answer.json()["seconds"] == 60


async def test_every_route_refuses_unknown_queries(gateway: Gateway, recording: bytes) -> None:
    """CASES 13: `page=2` of a list and `tz` of a report were ignored in silence."""
    job = (await gateway.send(recording)).json()["id"]
    getting = (PATH, f"{PATH}/{job}", f"{PATH}/{job}/transcript", f"{PATH}/{job}/audio")
    getting += (f"{PATH}/{job}/events", "/v1/models", "/v1/usage", "/v1/costs")
    for path in (*getting, "/healthz", "/readyz", "/version"):
        answer = await gateway.client.get(path, params={"page": "2"})
        assert code_of(answer) == (422, "invalid_parameter"), path
        assert "`page`" in answer.json()["detail"]
    for action in ("cancel", "retry", "stream-token"):
        answer = await gateway.client.post(f"{PATH}/{job}/{action}?force=1")
        assert code_of(answer) == (422, "invalid_parameter"), action
    assert code_of(await gateway.client.delete(f"{PATH}/{job}?force=1"))[0] == 422
    assert (await gateway.client.get(f"{PATH}/{job}")).status_code == 200


async def test_known_queries_are_still_taken(gateway: Gateway, recording: bytes) -> None:
    """CASES 13."""
    await gateway.send(recording, metadata='{"team": "support"}')
    query = "?limit=5&metadata[team]=support&metadata[team2]=x"
    assert (await gateway.client.get(PATH + query)).json()["items"] == []
    assert len((await gateway.client.get(PATH + "?metadata[team]=support")).json()["items"]) == 1
    assert (await gateway.client.get("/v1/usage?by=day&by=model")).status_code == 200
    repeated = await gateway.client.get(PATH + "?limit=1&limit=2")
    assert code_of(repeated) == (422, "invalid_parameter")


async def test_a_caller_without_a_key_is_told_about_the_key_first(gateway: Gateway) -> None:
    """CASES 13."""
    await gateway.key()
    answer = await gateway.client.get(PATH, params={"api_key": "gw_live_x"})
    assert code_of(answer) == (401, "key_missing")


async def test_a_slash_at_the_end_is_no_redirect(gateway: Gateway, recording: bytes) -> None:
    """CASES 10: 307 to an absolute http:// address, without a body."""
    made = await gateway.client.post(PATH + "/", files={"file": ("a.wav", recording)})
    assert made.status_code == 200
    for path in (PATH, f"{PATH}/{made.json()['id']}", "/v1/models", "/healthz"):
        assert (await gateway.client.get(path + "/")).status_code == 200, path
    assert code_of(await gateway.client.get(PATH + "//")) == (404, "no_such_route")


@pytest.mark.parametrize(("path", "location"), [("/", "docs"), ("/docs/", "../docs")])
async def test_redirects_are_relative(gateway: Gateway, path: str, location: str) -> None:
    """CASES 10."""
    answer = await gateway.client.get(path)
    assert (answer.status_code, answer.headers["location"]) == (307, location)


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/transcriptions", "/v1", "/v1/"])
async def test_an_unknown_path_is_no_other_projects_resource(gateway: Gateway, path: str) -> None:
    """CASES 20: it was "or it belongs to another project"."""
    for answer in (await gateway.client.get(path), await gateway.client.post(path)):
        assert code_of(answer) == (404, "no_such_route")
        assert answer.json()["detail"] == (
            "There is no such route. The API is at /v1/transcriptions; see /docs."
        )
    missing = await gateway.client.get(f"{PATH}/tr_{'0' * 32}")
    assert code_of(missing) == (404, "not_found")


async def test_the_form_of_the_docs_page_is_empty(gateway: Gateway, recording: bytes) -> None:
    """CASES 2: "Try it out" sent 31 example values, and objects as parts with a file name."""
    document = (await gateway.client.get("/docs/openapi.json")).json()
    for path in (PATH, "/v1/estimates"):
        body = document["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]
        (first, file), *options = body["schema"]["properties"].items()
        assert (first, file["format"]) == ("file", "binary")
        assert len(options) > 30
        for name, schema in options:
            # The sample of Swagger UI is the first example; an empty one is not sent.
            assert schema["examples"] in ([""], [[]]), name
            assert not {"default", "const", "anyOf"} & schema.keys(), name
            assert schema["type"] != "object", name
    empty = {name: "" for name, _ in options if name != "seconds"}
    answer = await gateway.client.post(PATH, files={"file": ("a.wav", recording)}, data=empty)
    assert (answer.status_code, answer.json()["warnings"]) == (200, [])
    files = {
        "file": ("a.wav", recording),
        "metadata": ("blob", b'{"team": "support"}', "application/json"),
    }
    answer = await gateway.client.post(PATH, files=files)
    assert (answer.status_code, answer.json()["metadata"]) == (200, {"team": "support"})


async def test_the_form_in_the_openapi_document_has_no_examples(gateway: Gateway) -> None:
    """CASES 2."""
    document = (await gateway.client.get("/openapi.json")).json()
    body = document["paths"][PATH]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert not any("examples" in schema for schema in body["schema"]["properties"].values())


async def test_head_is_get_without_a_body(gateway: Gateway, recording: bytes) -> None:
    """CASES 8: 405 on /healthz, /readyz, /version, /{id}/audio and others."""
    job = f"{PATH}/{(await gateway.send(recording)).json()['id']}"
    paths = [PATH, job, f"{job}/transcript?format=srt", f"{job}/audio", "/v1/models", "/v1/usage"]
    paths += ["/healthz", "/readyz", "/version", "/docs", "/openapi.json", "/", "/docs/"]
    for path in paths:
        whole, head = await gateway.client.get(path), await gateway.client.head(path)
        assert (head.status_code, head.content) == (whole.status_code, b""), path
        for name in ("content-type", "content-length"):
            assert head.headers.get(name) == whole.headers.get(name), path
    head = await gateway.client.head(f"{job}/audio", headers={"Range": "bytes=0-9"})
    assert (head.status_code, head.headers["content-length"]) == (206, "10")
    assert (await gateway.client.head(f"{PATH}/tr_{'0' * 32}")).status_code == 404
    assert (await gateway.client.head(f"{job}/cancel")).status_code == 405


async def test_head_of_a_stream_ends(gateway: Gateway, recording: bytes) -> None:
    """CASES 8."""
    gateway.engine.gate = asyncio.Event()
    job = (await gateway.send(recording, mode="async")).json()["id"]
    head = await gateway.client.head(f"{PATH}/{job}/events")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/event-stream")
    gateway.engine.gate.set()
    assert (await gateway.ended(job))["status"] == "completed"
