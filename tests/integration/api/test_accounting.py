"""Tests of app.api.v1.usage.

Covers: app.api.v1.usage
"""

import csv
import io

import pytest

from tests.support.gateway import NANO_PER_SECOND, Gateway, code_of

pytestmark = pytest.mark.anyio


async def test_usage_and_costs_add_up(gateway: Gateway, recording: bytes) -> None:
    for model in ("scripted/echo", "scripted/echo", "scripted/short"):
        await gateway.send(recording, model=model)
    usage = (await gateway.get("/v1/usage", by="model")).json()
    assert [(row["model"], row["transcriptions"], row["seconds"]) for row in usage["items"]] == [
        ("scripted/echo", 2, 4.0),
        ("scripted/short", 1, 2.0),
    ]
    (costs,) = (await gateway.get("/v1/costs")).json()["items"]
    assert costs["nano"] == 6 * NANO_PER_SECOND
    assert (costs["amount"], costs["currency"]) == ("0.00132", "CNY")
    assert costs["day"] == usage["until"][:10]


async def test_the_same_as_a_table(gateway: Gateway, recording: bytes) -> None:
    await gateway.send(recording)
    for path, fields in {
        "/v1/usage": {"seconds": "2.0"},
        "/v1/costs": {"amount": "0.00044"},
    }.items():
        response = await gateway.get(path, format="csv", by=["day", "model"])
        assert response.headers["content-type"].startswith("text/csv")
        (row,) = csv.DictReader(io.StringIO(response.text))
        assert row["model"] == "scripted/echo"
        assert row["project"] == ""
        assert fields.items() <= row.items()


async def test_groups_may_be_repeated_and_combined(gateway: Gateway, recording: bytes) -> None:
    key = await gateway.key()
    await gateway.send(recording, key=key)
    query = {"by": ["key", "project", "key", "day"]}
    (row,) = (await gateway.get("/v1/usage", key=key, **query)).json()["items"]
    assert row["key"].startswith("key_")
    assert row["project"].startswith("prj_")
    assert row["model"] is None


async def test_a_period_before_anything_happened_is_empty(
    gateway: Gateway, recording: bytes
) -> None:
    await gateway.send(recording)
    period = {"since": "2020-01-01T00:00:00Z", "until": "2020-02-01T00:00:00+08:00"}
    report = (await gateway.get("/v1/usage", **period)).json()
    assert report["items"] == []
    assert report["until"] == "2020-01-31T16:00:00.000Z"


@pytest.mark.parametrize("path", ["/v1/usage", "/v1/costs"])
@pytest.mark.parametrize(
    "query",
    [
        {"by": "hour"},
        {"by": ["day"] * 5},
        {"since": "yesterday"},
        {"until": "2026-11-21T00:00:00"},
        {"until": "0001-01-02T00:00:00Z"},
        {"until": "1700000000"},
        {"format": "xml"},
    ],
)
async def test_invalid_parameters_are_rejected(
    gateway: Gateway, path: str, query: dict[str, object]
) -> None:
    refused = await gateway.get(path, **query)
    assert code_of(refused) == (422, "invalid_parameter")
    assert [refused.json()["parameter"]] == list(query)
