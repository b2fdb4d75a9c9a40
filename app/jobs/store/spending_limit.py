"""The client's limits on the cost and the billed seconds of a job, checked before each expense."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from app.billing.prices import Tariff
from app.errors import CostAboveLimit, InvalidParameter, SecondsAboveLimit
from app.kit.money import format_nano, parse_nano
from app.kit.records import dataclass
from app.speech.options import Options
from app.speech.planning.expected_usage import ExpectedUsage
from app.speech.usage_bounds import MILLIS


@dataclass(frozen=True, slots=True)
class SpendingLimit:
    """`nano` of the model's `currency` (None: any currency), and `millis` of billed audio."""

    nano: int | None = None
    currency: str | None = None
    millis: int | None = None

    @classmethod
    def of(cls, options: Options) -> "SpendingLimit | None":
        """Return the requested limit; None where there is none."""
        seconds = options.max_billable_seconds
        millis = None if seconds is None else seconds * MILLIS
        if options.max_cost is None:
            return None if millis is None else cls(millis=millis)
        amount, _, currency = options.max_cost.partition(" ")
        return cls(parse_nano(amount), currency or None, millis)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> "SpendingLimit | None":
        return None if stored is None else cls(**stored)

    def held(self, nano: int) -> int:
        """Return the amount to hold for a bound: at most the limit."""
        return nano if self.nano is None else min(nano, self.nano)

    def check(self, tariff: Tariff, expected: ExpectedUsage | None) -> None:
        """Refuse an expected usage above the limit; an unknown length is checked once it is known.

        Raises CostAboveLimit, SecondsAboveLimit, and InvalidParameter for another currency.
        """
        if self.currency not in {None, tariff.currency}:
            raise InvalidParameter(
                f"`max_cost` is in {self.currency}, and this model is paid in {tariff.currency}.",
                parameter="max_cost",
            )
        if expected is None:
            return
        cost = cost_to_allow(tariff, expected)
        if self.nano is not None and cost > self.nano:
            raise self._too_dear(cost, tariff.currency)
        if self.millis is not None and expected.millis > self.millis:
            raise self._too_long(expected.millis)

    def check_call(self, *, held: int, millis: int, currency: str) -> None:
        """Refuse a call that takes the total held amount or sent audio above the limit.

        Raises as `check` does.
        """
        if self.nano is not None and held > self.nano:
            raise self._too_dear(held, currency, of_call=True)
        if self.millis is not None and millis > self.millis:
            raise self._too_long(millis, of_call=True)

    def _too_dear(self, nano: int, currency: str, *, of_call: bool = False) -> CostAboveLimit:
        limit, cost = format_nano(self.nano or 0), format_nano(nano)
        return CostAboveLimit(
            f"{_WHAT[of_call]} cost {cost} {currency}, and `max_cost` is {limit}.",
            estimate={"amount": cost, "currency": currency, "nano": nano},
            max_cost=limit,
        )

    def _too_long(self, millis: int, *, of_call: bool = False) -> SecondsAboveLimit:
        seconds, limit = -(-millis // MILLIS), (self.millis or 0) // MILLIS
        return SecondsAboveLimit(
            f"{_WHAT[of_call]} be billed as {seconds} s, and `max_billable_seconds` is {limit}.",
            estimate_seconds=seconds,
            max_billable_seconds=limit,
        )


_WHAT = {
    False: "This recording is expected to",
    True: "With the next call, which may have to repeat one, this recording could",
}


def cost_to_allow(tariff: Tariff, expected: ExpectedUsage) -> int:
    """Return the cost that a limit must allow: the expected cost, rounded up to whole seconds.

    The number of tokens of an answer is not known beforehand, so there it is the largest cost of
    its calls.
    """
    if tariff.counts_tokens:
        return expected.parts * tariff.cost(*expected.each)
    return tariff.cost(*expected.units)
