"""Prices with their time of validity, and the tariff under which a job is accepted."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa

from app.billing.tables import price
from app.db.prepared import Prepared
from app.db.schema import Utc
from app.errors import PriceUnknown
from app.kit.ids import new_id
from app.kit.money import cost_of_millis
from app.kit.records import dataclass

_FREE = SimpleNamespace(nano=0)
_NOW = sa.bindparam("now", type_=Utc())
_VALID_PRICES = Prepared(
    sa.select(price)
    .where(
        price.c.model == sa.bindparam("model"),
        price.c.region == sa.bindparam("region"),
        price.c.valid_from <= _NOW,
        sa.or_(price.c.valid_until.is_(None), price.c.valid_until > _NOW),
    )
    .order_by(price.c.valid_from)
)


@dataclass(frozen=True, slots=True)
class PriceRow:
    """A price: `nano` billionths of `currency` for one `unit`; see tables.UNITS."""

    model: str
    region: str
    unit: str
    nano: int
    currency: str
    valid_from: datetime
    valid_until: datetime | None
    source: str


@dataclass(frozen=True, slots=True)
class Tariff:
    """The prices of one model at the time a job was accepted. They do not change for that job."""

    region: str
    currency: str
    units: Mapping[str, int]
    price_ids: tuple[str, ...]

    def cost(
        self, used_ms: int, input_tokens: int = 0, output_tokens: int = 0, text_tokens: int = 0
    ) -> int:
        """Return the cost of usage in nano-units. A unit without a price costs nothing.

        `text_tokens` is the number of input tokens that are text, which may have their own price.
        """
        input_nano = self.units.get("input_token", 0)
        text_nano = self.units.get("text_input_token", input_nano)
        return (
            cost_of_millis(self.units.get("second", 0), used_ms)
            + input_nano * (input_tokens - text_tokens)
            + text_nano * text_tokens
            + self.units.get("output_token", 0) * output_tokens
        )

    @property
    def counts_tokens(self) -> bool:
        return bool(self.units.keys() - {"second"})

    def as_json(self) -> dict[str, Any]:
        return {
            "region": self.region,
            "currency": self.currency,
            "units": self.units,
            "price_ids": self.price_ids,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Tariff":
        return cls(
            stored["region"], stored["currency"], stored["units"], tuple(stored["price_ids"])
        )


def load_prices(tx: sa.Connection, rows: Iterable[PriceRow]) -> int:
    """Add the prices that are not stored yet and return their number. Others are not changed."""
    added = 0
    for row in rows:
        known = sa.select(price.c.id).where(
            price.c.model == row.model,
            price.c.region == row.region,
            price.c.unit == row.unit,
            price.c.valid_from == row.valid_from,
        )
        if tx.scalar(known) is None:
            tx.execute(sa.insert(price).values(id=new_id("prc"), **asdict(row)))
            added += 1
    return added


def list_prices(tx: sa.Connection) -> list[PriceRow]:
    """Return all prices, past ones included, by model, region, unit and start."""
    names = [field.name for field in fields(PriceRow)]
    columns = [price.c[name] for name in names]
    order = (price.c.model, price.c.region, price.c.unit, price.c.valid_from)
    return [PriceRow(*row) for row in tx.execute(sa.select(*columns).order_by(*order))]


def prices_of(tx: sa.Connection, tariff: Tariff) -> list[PriceRow]:
    """Return the stored prices of a tariff."""
    columns = [price.c[field.name] for field in fields(PriceRow)]
    query = sa.select(*columns).where(price.c.id.in_(tariff.price_ids)).order_by(price.c.unit)
    return [PriceRow(*row) for row in tx.execute(query)]


def add_price(tx: sa.Connection, row: PriceRow) -> None:
    """Add a price. It ends the price before it, and itself ends where the next price begins.

    Raises ValueError where a price begins at the same moment: jobs may have been accepted under it.
    """
    same = sa.and_(
        price.c.model == row.model, price.c.region == row.region, price.c.unit == row.unit
    )
    starts = tx.scalars(sa.select(price.c.valid_from).where(same)).all()
    if row.valid_from in starts:
        raise ValueError("A price that begins at this moment exists already; give another start.")
    overlaps = sa.or_(price.c.valid_until.is_(None), price.c.valid_until > row.valid_from)
    tx.execute(
        sa.update(price)
        .where(same, price.c.valid_from < row.valid_from, overlaps)
        .values(valid_until=row.valid_from)
    )
    until = min((start for start in starts if start > row.valid_from), default=row.valid_until)
    added = asdict(replace(row, valid_until=until))
    tx.execute(sa.insert(price).values(id=new_id("prc"), **added))


def tariff_of(
    tx: sa.Connection, *, model: str, region: str, now: datetime, tokens_bounded: bool = False
) -> Tariff:
    """Return the valid prices of a model in a region.

    Raises PriceUnknown where no price is valid, or where one is per token and the tokens of a call
    have no upper limit (`tokens_bounded`), so that nothing could be held for them.
    """
    rows = _VALID_PRICES.all(tx, {"model": model, "region": region, "now": now})
    latest = {row.unit: row for row in rows}
    if not {"second", "input_token"} & latest.keys():
        raise PriceUnknown(f"No price is known for {model} in region {region}.")
    if latest.keys() - {"second"} and not tokens_bounded:
        raise PriceUnknown(f"{model} is billed by tokens, and the tokens of a call have no limit.")
    if latest.get("text_input_token", _FREE).nano > latest.get("input_token", _FREE).nano:
        # The hold for a call counts all input tokens at the price of audio.
        raise PriceUnknown(f"{model} has a higher price for text than for audio.")
    if len({row.currency for row in latest.values()}) != 1:
        raise PriceUnknown(f"{model} has prices in several currencies in region {region}.")
    return Tariff(
        region=region,
        currency=rows[-1].currency,
        units={unit: row.nano for unit, row in latest.items()},
        price_ids=tuple(row.id for row in latest.values()),
    )
