"""Tests of app.api.v1.request.metadata_filter.

Covers: app.api.v1.request.metadata_filter, app.kit.paging
"""

import pytest

from app.kit.paging import encode_cursor
from tests.support.gateway import Gateway, code_of
from tests.support.scenario import Scenario, job_spec

pytestmark = pytest.mark.anyio
PATH = "/v1/transcriptions"


async def jobs(gateway: Gateway, count: int, **fields: object) -> list[str]:
    """Store this number of transcriptions, oldest first, as another process would."""
    db = gateway.services.db
    return [
        (await Scenario.create(db, wanted=job_spec(**fields), lease_seconds=600)).id
        for _ in range(count)
    ]


async def listed(gateway: Gateway, **query: object) -> list[str]:
    response = await gateway.get(PATH, **query)
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]]


async def test_newest_first_and_nothing_more_on_the_last_page(gateway: Gateway) -> None:
    made = await jobs(gateway, 3)
    assert await listed(gateway) == made[::-1]
    assert (await gateway.get(PATH)).json()["next_cursor"] is None
    exact = await gateway.get(PATH, limit=3)
    assert exact.json()["next_cursor"] is None


async def test_three_pages_while_new_ones_arrive(gateway: Gateway) -> None:
    made = await jobs(gateway, 7)
    seen, cursor = [], None
    for pages in range(1, 4):
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await gateway.get(PATH, **query)).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        assert (cursor is None) is (pages == 3)
        await jobs(gateway, 2)
    assert seen == made[::-1]
    assert len(await listed(gateway)) == 13


async def test_filters(gateway: Gateway, recording: bytes) -> None:
    (open_one,) = await jobs(gateway, 1, reference="r 1")
    done = (await gateway.send(recording, model="scripted/short")).json()
    assert await listed(gateway, status="processing") == [open_one]
    assert await listed(gateway, status="completed") == [done["id"]]
    assert await listed(gateway, status="failed") == []
    assert await listed(gateway, model="scripted/short") == [done["id"]]
    assert await listed(gateway, reference="r 1") == [open_one]
    assert await listed(gateway, created_before=done["created_at"]) == [open_one]
    assert done["id"] in await listed(gateway, created_after="2026-01-01T00:00:00+08:00")
    assert await listed(gateway, created_after="2999-01-01T00:00:00Z") == []


async def test_reference_and_metadata_filter_the_list(gateway: Gateway) -> None:
    (support,) = await jobs(gateway, 1, metadata={"team": "support", "tier": "gold", "x]": "é&="})
    (sales,) = await jobs(gateway, 1, metadata={"team": "sales"}, reference="r")
    assert await listed(gateway, **{"metadata[team]": "support"}) == [support]
    assert await listed(gateway, **{"metadata[team]": "support", "metadata[tier]": "gold"}) == [
        support
    ]
    assert await listed(gateway, **{"metadata[team]": "sales", "metadata[tier]": "gold"}) == []
    assert await listed(gateway, **{"metadata[x]]": "é&="}) == [support]
    assert await listed(gateway, **{"metadata[team]": "sales", "reference": "r"}) == [sales]


@pytest.mark.parametrize(
    "query",
    [
        {"cursor": "not-a-cursor-€"},
        {"cursor": "a"},
        {"cursor": encode_cursor("tr_x\x00")},
        {"cursor": encode_cursor("aud_" + "0" * 32)},
        {"limit": 0},
        {"limit": 101},
        {"limit": "many"},
        {"status": "done"},
        {"created_after": "yesterday"},
        {"created_after": "2026-11-21T00:00:00"},
        {"created_after": "0.5"},
        {"created_after": "2026-11-21"},
        {"created_after": "0001-01-01T00:00:00+23:59"},
        {"created_before": "9999-12-31T23:59:59-23:59"},
        {"reference": "x" * 201},
        {"reference": "\x00"},
        {"model": "\x00"},
        {"metadata": "support"},
        {"metadata[]": "support"},
        {"metadata[team": "support"},
        {"metadata.team": "support"},
        {"metadata[team]": ["support", "sales"]},
        {"metadata[team]": "v" * 501},
        {"metadata[team]": "\x00"},
        {"metadata[" + "k" * 65 + "]": "v"},
        {f"metadata[{n}]": "v" for n in range(17)},
    ],
)
async def test_invalid_parameters_are_rejected(gateway: Gateway, query: dict[str, object]) -> None:
    assert code_of(await gateway.get(PATH, **query)) == (422, "invalid_parameter")
