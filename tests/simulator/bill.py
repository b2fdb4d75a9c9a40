"""The simulator's own bill: the provider's charges, rounded in a way unknown to the gateway.

The documents do not define the rounding of seconds, so a seed selects it, and code that relies on
one rounding is found. A failed call costs nothing. An answer that is lost is charged. A task is
charged when it ends, in one line for all its files that did not fail, under the request id of its
submission. The line is answered or lost depending on whether the answer to the submission arrived.
"""

import csv
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from random import Random
from typing import Literal

Rounding = Literal["floor", "ceil", "round"]
ROUNDINGS: dict[Rounding, Callable[[float], int]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round": lambda seconds: math.floor(seconds + 0.5),
}


@dataclass(frozen=True)
class Charge:
    """The line of one call in the provider's file; the columns of `bill_csv()`, in this order.

    `started_at`: UTC, ISO 8601. `seconds`: billed audio. Tokens: zero where a model has no price
    per token; `text_input_tokens`: input tokens that are text, where text is cheaper.
    The file does not contain whether the answer arrived: the provider does not know it.
    """

    request_id: str
    started_at: str
    region: str
    model: str
    seconds: int
    input_tokens: int
    output_tokens: int
    text_input_tokens: int


@dataclass
class Line:
    """A charge with facts that only the simulator knows."""

    charge: Charge
    measured_seconds: float
    answered: bool = False

    @property
    def request_id(self) -> str:
        return self.charge.request_id

    @property
    def model(self) -> str:
        return self.charge.model

    @property
    def seconds(self) -> int:
        return self.charge.seconds

    @property
    def lost(self) -> bool:
        return not self.answered


class Bill:
    """The lines of one simulator."""

    def __init__(self, seed: int, rounding: Rounding | None = None) -> None:
        drawn: Rounding = Random(f"rounding {seed}").choice(list(ROUNDINGS))
        self.rounding: Rounding = rounding or drawn
        self.lines: list[Line] = []

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def rounded(self, seconds: float) -> int:
        """Return the seconds charged for a length in milliseconds."""
        return max(1, ROUNDINGS[self.rounding](round(seconds, 3)))

    def charge(
        self, request_id: str, at: datetime, region: str, model: str, usage: "Usage"
    ) -> Line:
        charge = Charge(
            request_id=request_id,
            started_at=at.isoformat(timespec="milliseconds"),
            region=region,
            model=model,
            seconds=usage.seconds,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            text_input_tokens=usage.text_input_tokens,
        )
        self.lines.append(Line(charge, usage.measured_seconds))
        return self.lines[-1]

    def seconds(self, *, answered: bool | None = None) -> int:
        """Return the sum of all lines, or of the answered lines, or of the lost lines."""
        return sum(line.seconds for line in self.lines if answered in {None, line.answered})

    def csv(self) -> str:
        """Return the provider's file: a header line, one line per call, the columns of `Charge`."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(field.name for field in fields(Charge))
        writer.writerows(astuple(line.charge) for line in self.lines)
        return out.getvalue()


@dataclass(frozen=True)
class Usage:
    """The usage of one answered call, before a wire renders it."""

    measured_seconds: float = 0.0
    seconds: int = 0
    context_tokens: int = 0
    text_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    text_input_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    @property
    def audio_tokens(self) -> int:
        return round(max(1.0, self.measured_seconds) * 25)
