"""Which way a recording is transcribed, and how much that can use at most. Pure."""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from app.speech.bounds import Units, calls_bound, context_bound
from app.speech.catalogue import Model

ROUNDING_MS = 1000  # an upstream may round each call up to a whole second
# Cuts fall in pauses before the limit; one that falls before its half would be a poor splitter.
SHORTEST_PART = 0.5


@dataclass(frozen=True, slots=True)
class PlanInput:
    """What is known before a recording is transcribed; `seconds` None: its header does not say."""

    seconds: float | None
    model: Model
    max_seconds: int
    context: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """How it will be done, and why, in words for the client."""

    kind: Literal["direct", "split"]
    part_seconds: int
    why: str


def plan(wish: PlanInput) -> Plan:
    """Choose between one call and parts cut in pauses."""
    limit = wish.model.part_seconds
    takes = f"{wish.model.name} takes {limit} s in one call"
    if wish.seconds is None:
        return Plan("split", limit, f"{takes} and the length is not known beforehand")
    if wish.seconds <= limit:
        return Plan("direct", limit, f"{takes} and the recording has {wish.seconds:.1f} s")
    return Plan("split", limit, f"{takes}, less than the recording's {wish.seconds:.1f} s")


def bound(wish: PlanInput) -> Units:
    """Return the most that the calls of this recording can use, for the hold.

    Each call may be rounded up to a whole second, so there is a second of slack for every part
    that there can be. A length that is not known is taken to be the longest allowed.
    """
    seconds = wish.max_seconds if wish.seconds is None else ceil(wish.seconds)
    parts = 1
    if wish.seconds is None or wish.seconds > wish.model.part_seconds:
        parts = ceil(seconds / (wish.model.part_seconds * SHORTEST_PART))
    tokens = wish.model.token_facts(context_bound(wish.context))
    return calls_bound(seconds * 1000 + parts * ROUNDING_MS, parts, tokens)
