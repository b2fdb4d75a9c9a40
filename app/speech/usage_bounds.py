"""How much a call can use at most, for what is held before it is made. Pure.

A second has its price at every upstream but one that counts tokens; of those the catalogue knows
bounds, which are facts of a model and pinned to a job as its prices are.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, NamedTuple

MILLIS = 1000


class Units(NamedTuple):
    """What is paid for, in the order in which `Tariff.cost` takes it."""

    millis: int
    input_tokens: int = 0
    output_tokens: int = 0

    def times(self, count: int) -> "Units":
        """Return as many of each for every one of so many channels: each is billed."""
        return Units(*(one * count for one in self))


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """Upper bounds of what one call counts: for each started second, beside the sound, and out.

    `context` bounds what the caller's context adds to each call; `output_per_second` what each
    started second adds to `max_output`, where calls may be hours long.
    """

    per_second: float
    per_call: int
    max_output: int
    context: int = 0
    output_per_second: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> "TokenFacts | None":
        """Return what `as_json` made; None for None: of this model no bounds are known."""
        return None if stored is None else cls(**stored)

    def of_sound(self, millis: int) -> int:
        return ceil(self.per_second * ceil(millis / MILLIS))

    def of_text(self, millis: int, calls: int = 1) -> int:
        return calls * self.max_output + ceil(self.output_per_second * ceil(millis / MILLIS))


def max_usage_of_call(millis: int, tokens: TokenFacts | None) -> Units:
    """Return the most that one call of so much sound can use; an upstream may round it up."""
    whole = ceil(millis / MILLIS) * MILLIS
    if tokens is None:
        return Units(whole)
    around = tokens.per_call + tokens.context
    return Units(whole, tokens.of_sound(whole) + around, tokens.of_text(whole))


def max_usage_of_calls(millis: int, calls: int, tokens: TokenFacts | None) -> Units:
    """Return the most that so many calls can use; `millis` are their whole seconds in all."""
    if tokens is None:
        return Units(millis)
    around = tokens.per_call + tokens.context + 1  # each call may round up to a whole token
    return Units(millis, tokens.of_sound(millis) + calls * around, tokens.of_text(millis, calls))


def max_context_tokens(context: str | None) -> int:
    """Return the most tokens that a context can be: none is shorter than a byte."""
    return len((context or "").encode("utf-8", "replace"))
