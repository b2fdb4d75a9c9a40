"""The routes of a job: on which engine, as which model and at which prices its calls may be made.

They are fixed when the job is created. The first route is the preferred one; the others are the
accounts that the operator listed for failover and that have the model at a price in its currency.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.billing.prices import Tariff, tariff_of
from app.errors import PriceUnknown
from app.jobs.store.job_spec import JobSpec
from app.kit.records import dataclass


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
    """Return a job's routes, the preferred one first, from its row and the model of its plan."""
    first = Route(row.engine, upstream_model, Tariff.from_json(row.tariff))
    return (first, *(Route.from_json(stored) for stored in row.fallbacks))


@dataclass(frozen=True, slots=True)
class Quote:
    """The routes of a job, and the most that its calls can cost on any of them."""

    routes: tuple[Route, ...]
    max_cost_nano: int

    @property
    def tariff(self) -> Tariff:
        """The tariff of the preferred route; all routes have its currency."""
        return self.routes[0].tariff


def quote(tx: sa.Connection, spec: JobSpec, *, now: datetime) -> Quote:
    """Price a job on each engine that its calls may go to. Raises PriceUnknown.

    An engine of a further route is left out where its price is unknown or in another currency: the
    ledger entries of a job have one currency.
    """

    def route(engine: str, region: str, upstream_model: str) -> Route:
        bounded = any(spec.max_tokens)
        tariff = tariff_of(tx, model=spec.model, region=region, now=now, tokens_bounded=bounded)
        return Route(engine, upstream_model, tariff)

    first = route(spec.engine, spec.region, spec.plan.upstream_model)
    routes = [first]
    for place in spec.others:
        with suppress(PriceUnknown):
            other = route(place.engine, place.region, place.upstream_model)
            if other.tariff.currency == first.tariff.currency:
                routes.append(other)
    usage = (spec.max_ms, *spec.max_tokens)
    return Quote(tuple(routes), max(route.tariff.cost(*usage) for route in routes))
