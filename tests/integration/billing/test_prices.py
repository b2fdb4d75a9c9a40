"""Tests of app.billing.prices.

Covers: app.billing.prices, app.cli.prices
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.billing.prices import PriceRow, Tariff, add_price, list_prices, load_prices, tariff_of
from app.db.database import Database
from app.errors import PriceUnknown
from tests.support.scenario import PRICE

pytestmark = pytest.mark.anyio
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)
BLINK = timedelta(microseconds=1)
UNITS = st.dictionaries(
    st.sampled_from(["second", "input_token", "output_token", "text_input_token"]),
    st.integers(0, 10**9),
    min_size=1,
)


async def price_at(db: Database, moment: datetime, **of: Any) -> Tariff:
    asked = {"model": PRICE.model, "region": PRICE.region, **of}
    return await db.read(tariff_of, now=moment, **asked)


async def known(db: Database, *rows: PriceRow) -> int:
    return await db.write(load_prices, rows)


@pytest.mark.parametrize("of", [{"model": "other/one"}, {"region": "elsewhere"}])
async def test_an_unknown_price_is_an_error_and_never_zero(
    db: Database, of: dict[str, str]
) -> None:
    await known(db, PRICE)
    with pytest.raises(PriceUnknown):
        await price_at(db, JUNE, **of)


async def test_a_price_is_valid_from_its_first_moment_up_to_its_last(db: Database) -> None:
    await known(db, replace(PRICE, valid_from=MARCH, valid_until=JUNE))
    for moment in (MARCH, JUNE - BLINK):
        assert (await price_at(db, moment)).units == {"second": PRICE.nano}
    for moment in (MARCH - BLINK, JUNE):
        with pytest.raises(PriceUnknown):
            await price_at(db, moment)


@pytest.mark.parametrize("order", [1, -1])
async def test_of_two_valid_prices_the_later_one_counts(db: Database, order: int) -> None:
    rows = [PRICE, replace(PRICE, valid_from=JUNE, nano=7)]
    await known(db, *rows[::order])
    assert (await price_at(db, JUNE - BLINK)).units == {"second": PRICE.nano}
    assert (await price_at(db, JUNE)).units == {"second": 7}


async def test_units_are_priced_one_by_one(db: Database) -> None:
    await known(db, PRICE, replace(PRICE, unit="output_token", valid_from=JUNE, nano=800))
    tariff = await price_at(db, JUNE, tokens_bounded=True)
    assert tariff.units == {"second": PRICE.nano, "output_token": 800}
    assert len(tariff.price_ids) == 2
    assert tariff.cost(1_000, output_tokens=3) == PRICE.nano + 2_400


async def test_token_prices_need_token_bounds(db: Database) -> None:
    tokens = replace(PRICE, unit="input_token", nano=800)
    await known(db, tokens, replace(tokens, unit="output_token", nano=2_700))
    with pytest.raises(PriceUnknown, match="billed by tokens"):
        await price_at(db, JUNE)
    tariff = await price_at(db, JUNE, tokens_bounded=True)
    assert tariff.cost(15_000, 245, 35) == 245 * 800 + 35 * 2_700


async def test_text_input_may_have_a_lower_price(db: Database) -> None:
    sound = replace(PRICE, unit="input_token", nano=15_800)
    text = replace(PRICE, unit="text_input_token", nano=1_800)
    await known(db, sound, text, replace(PRICE, unit="output_token", nano=12_700))
    tariff = await price_at(db, JUNE, tokens_bounded=True)
    assert tariff.cost(0, 245, 35, 45) == 200 * 15_800 + 45 * 1_800 + 35 * 12_700
    assert tariff.cost(0, 245, 35) == 245 * 15_800 + 35 * 12_700  # the most expensive one is held


async def test_text_input_may_not_have_a_higher_price(db: Database) -> None:
    tokens = replace(PRICE, unit="input_token", nano=800)
    await known(db, tokens, replace(PRICE, unit="text_input_token", nano=801))
    with pytest.raises(PriceUnknown, match="text"):
        await price_at(db, JUNE, tokens_bounded=True)


async def test_an_output_price_alone_is_no_tariff(db: Database) -> None:
    await known(db, replace(PRICE, unit="output_token", nano=2_700))
    with pytest.raises(PriceUnknown):
        await price_at(db, JUNE, tokens_bounded=True)


async def test_a_tariff_in_two_currencies_is_no_tariff(db: Database) -> None:
    await known(db, PRICE, replace(PRICE, unit="output_token", currency="USD"))
    with pytest.raises(PriceUnknown, match="currencies"):
        await price_at(db, JUNE, tokens_bounded=True)


async def test_a_free_price_is_a_price(db: Database) -> None:
    await known(db, replace(PRICE, nano=0))
    assert (await price_at(db, JUNE)).cost(60_000) == 0


async def test_loading_again_keeps_prices_of_an_operator(db: Database) -> None:
    rows: Sequence[PriceRow] = [PRICE, replace(PRICE, unit="output_token")]
    assert await known(db, *rows) == 2
    assert await known(db, replace(PRICE, nano=1), *rows) == 0
    assert (await price_at(db, JUNE, tokens_bounded=True)).units["second"] == PRICE.nano


async def test_replicas_that_start_together_load_each_price_once(db: Database) -> None:
    rows = [replace(PRICE, valid_from=MARCH + n * BLINK) for n in range(8)]
    assert sum(await asyncio.gather(*(known(db, *rows) for _ in range(8)))) == len(rows)


@given(UNITS, st.lists(st.text(max_size=9), max_size=3))
def test_a_tariff_survives_being_stored(units: dict[str, int], ids: list[str]) -> None:
    tariff = Tariff("test", "CNY", units, tuple(ids))
    assert Tariff.from_json(tariff.as_json()) == tariff


async def test_a_price_set_ends_the_one_before_it_and_ends_where_the_next_begins(
    db: Database,
) -> None:
    for row in (PRICE, replace(PRICE, valid_from=JUNE, nano=3)):
        await db.write(add_price, row)
    await db.write(add_price, replace(PRICE, valid_from=MARCH, nano=2))
    rows = await db.read(list_prices)
    assert [(row.nano, row.valid_from, row.valid_until) for row in rows] == [
        (PRICE.nano, PRICE.valid_from, MARCH),
        (2, MARCH, JUNE),
        (3, JUNE, None),
    ]
    with pytest.raises(ValueError, match="exists already"):
        await db.write(add_price, replace(PRICE, valid_from=MARCH, nano=9))
