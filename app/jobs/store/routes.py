"""The routes of a job: on which engine, as which model and at which prices its calls may be made.

They are fixed when the job is accepted. The first is where it is meant to run; the others are the
bundles that the operator listed for failover and that have the model at a price in its currency.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.billing.prices import Tariff, tariff_of
from app.errors import PriceUnknown


@dataclass(frozen=True, slots=True)
class EnginePlace:
    """An engine that has the wished model, and what the model is called there."""

    engine: str
    region: str
    upstream_model: str


@dataclass(frozen=True, slots=True)
class Route:
    """One engine with the tariff that a call on it is held, settled and reconciled by."""

    engine: str
    upstream_model: str
    tariff: Tariff

    def as_json(self) -> dict[str, Any]:
        return {
            "engine": self.engine,
            "upstream_model": self.upstream_model,
            "tariff": self.tariff.as_json(),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Route":
        return cls(stored["engine"], stored["upstream_model"], Tariff.from_json(stored["tariff"]))


def routes_of(row: Any, upstream_model: str) -> tuple[Route, ...]:
    """Return a job's routes, first the one it is meant for, from its row."""
    first = Route(row.engine, upstream_model, Tariff.from_json(row.tariff))
    return (first, *(Route.from_json(stored) for stored in row.fallbacks))


def fallbacks(
    tx: sa.Connection,
    model: str,
    places: Sequence[EnginePlace],
    first: Tariff,
    *,
    now: datetime,
    tokens_bounded: bool,
) -> tuple[Route, ...]:
    """Return the places with a known price in the first's currency: a job's lines have one."""
    found = []
    for place in places:
        try:
            tariff = tariff_of(
                tx, model=model, region=place.region, now=now, tokens_bounded=tokens_bounded
            )
        except PriceUnknown:
            continue
        if tariff.currency == first.currency:
            found.append(Route(place.engine, place.upstream_model, tariff))
    return tuple(found)
