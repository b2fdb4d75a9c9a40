"""Upper bounds of the usage of calls, which are held before the calls are made. Pure.

Most upstreams bill seconds. For those that bill tokens, the catalogue has upper bounds of a model's
tokens; they are stored with a job, as its prices are.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, NamedTuple

MILLIS = 1000


class Units(NamedTuple):
    """Billed units, in the order of the parameters of `Tariff.cost`."""

    millis: int
    input_tokens: int = 0
    output_tokens: int = 0

    def times(self, count: int) -> "Units":
        """Return the units of `count` channels, each of which is billed."""
        return Units(self.millis * count, self.input_tokens * count, self.output_tokens * count)


@dataclass(frozen=True, slots=True)
class TokenBounds:
    """Upper bounds of the tokens of one call.

    Input: `per_second` for each started second, `per_call` and `context` once. Output: `max_output`
    once, and `output_per_second` for each started second, as a call may be hours long.
    """

    per_second: float
    per_call: int
    max_output: int
    context: int = 0
    output_per_second: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> "TokenBounds | None":
        """Return the bounds that `as_json` stored; None where none were known."""
        return None if stored is None else cls(**stored)

    def audio_tokens(self, millis: int) -> int:
        """Return the most input tokens for so much audio."""
        return ceil(self.per_second * ceil(millis / MILLIS))

    def output_tokens(self, millis: int, calls: int = 1) -> int:
        """Return the most output tokens of `calls` with so much audio in all."""
        return calls * self.max_output + ceil(self.output_per_second * ceil(millis / MILLIS))


def max_usage_of_call(millis: int, bounds: TokenBounds | None) -> Units:
    """Return the maximum usage of one call with so much audio, rounded up to whole seconds."""
    whole = ceil(millis / MILLIS) * MILLIS
    if bounds is None:
        return Units(whole)
    fixed = bounds.per_call + bounds.context
    return Units(whole, bounds.audio_tokens(whole) + fixed, bounds.output_tokens(whole))


def max_usage_of_calls(millis: int, calls: int, bounds: TokenBounds | None) -> Units:
    """Return the maximum usage of so many calls.

    `millis` is the sum of the calls' audio, each rounded up to whole seconds.
    """
    if bounds is None:
        return Units(millis)
    fixed = calls * (bounds.per_call + bounds.context + 1)  # a call may round up to a whole token
    return Units(millis, bounds.audio_tokens(millis) + fixed, bounds.output_tokens(millis, calls))


def max_context_tokens(context: str | None) -> int:
    """Return the most tokens of a context: no token is shorter than a byte."""
    return len((context or "").encode("utf-8", "replace"))
