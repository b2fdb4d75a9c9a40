"""Compares our calls with the upstream's bill: every difference gets a kind and a sum. Pure.

A call with a known request id is matched by it. A call whose answer was lost has none: it is
matched with a remaining line of its model and of its length, rounded down or up.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

from app.billing.bill import MILLIS, BillLine
from app.billing.ledger import Account
from app.billing.prices import Tariff

Kind = Literal[
    "in_doubt_billed",
    "in_doubt_not_billed",
    "failed_billed",
    "rounding",
    "unknown_to_us",
    "not_on_the_bill",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A recorded call. `nano` and `used_ms` are the sums of its ledger entries so far."""

    call_id: str
    state: Literal["answered", "failed", "in_doubt"]
    request_id: str | None
    upstream_model: str
    audio_ms: int
    opened_at: datetime
    account: Account
    tariff: Tariff
    nano: int
    used_ms: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. `nano` and `millis` are the bill's figures minus ours; may be negative."""

    kind: Kind
    nano: int
    millis: int
    call: RecordedCall | None = None
    line: BillLine | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The comparison. `matched` has every call that is on the bill, with or without difference."""

    calls: int
    lines: int
    ours_nano: int
    billed_nano: int
    currency: str
    matched: Sequence[tuple[RecordedCall, BillLine]]
    differences: Sequence[Difference]

    @property
    def is_explained(self) -> bool:
        """Whether each line belongs to a call. A line without a call is charged to no project."""
        return not self.of("unknown_to_us")

    def of(self, kind: Kind) -> list[Difference]:
        return [found for found in self.differences if found.kind == kind]


@dataclass(slots=True)
class _Pairs:
    """The pairs of calls and lines. `left` are the lines without a call, fewest seconds first."""

    left: list[BillLine]
    unknown: list[BillLine] = field(default_factory=list)
    found: dict[str, BillLine] = field(default_factory=dict)

    def by_id(self, calls: Iterable[RecordedCall]) -> None:
        """Pair lines with calls by request id. A line that repeats an id stays without a call."""
        ids = {call.request_id: call.call_id for call in calls if call.request_id}
        lines, self.left = self.left, []
        for line in lines:
            call_id = ids.get(line.request_id)
            if call_id is None:
                self.left.append(line)
            elif call_id in self.found:
                self.unknown.append(line)
            else:
                self.found[call_id] = line

    def by_length(self, calls: Iterable[RecordedCall]) -> None:
        """Pair calls without an id with remaining lines that fit, so that most calls get a line."""
        for call in sorted(calls, key=lambda call: (_longest(call), _least(call), call.call_id)):
            line = next((line for line in self.left if _fits(call, line)), None)
            if line is not None:
                self.left.remove(line)
                self.found[call.call_id] = line


def compare(calls: Sequence[RecordedCall], bill: Sequence[BillLine]) -> Report:
    """Compare the calls of one upstream, and of the bill's period, with its bill.

    Raises ValueError if the calls are not all of one currency.
    """
    currencies = {call.tariff.currency for call in calls}
    if len(currencies) > 1:
        raise ValueError(f"Calls in {' and '.join(sorted(currencies))} are not on one bill.")
    pairs = _paired(calls, bill)
    matched = [(call, pairs.found[call.call_id]) for call in calls if call.call_id in pairs.found]
    missing = [call for call in calls if call.call_id not in pairs.found]
    nobodys = [*pairs.unknown, *pairs.left]
    known = [_on_the_bill(call, line) for call, line in matched]
    absent = [_absent(call) for call in missing]
    unknown = [Difference("unknown_to_us", 0, line.millis, line=line) for line in nobodys]
    return Report(
        calls=len(calls),
        lines=len(bill),
        ours_nano=sum(call.nano for call in calls),
        billed_nano=sum(_billed(call, line) for call, line in matched),
        currency=next(iter(currencies), ""),
        matched=matched,
        differences=[found for found in (*known, *absent, *unknown) if found],
    )


def _paired(calls: Sequence[RecordedCall], bill: Sequence[BillLine]) -> _Pairs:
    pairs = _Pairs(sorted(bill, key=lambda line: (line.millis, line.request_id)))
    pairs.by_id(calls)
    nameless = [call for call in calls if not call.request_id]
    for rank in range(3):
        pairs.by_length(call for call in nameless if _rank(call) == rank)
    return pairs


def _rank(call: RecordedCall) -> int:
    """Return the order of pairing: calls that were billed, then those in doubt, then the others."""
    if call.state == "in_doubt":
        return 1
    return 0 if call.state == "answered" or call.nano > 0 else 2


def _on_the_bill(call: RecordedCall, line: BillLine) -> Difference | None:
    nano, millis = _billed(call, line) - call.nano, line.millis - call.used_ms
    if nano == 0:
        return None
    kinds: dict[str, Kind] = {"in_doubt": "in_doubt_billed", "failed": "failed_billed"}
    return Difference(kinds.get(call.state, "rounding"), nano, millis, call, line)


def _absent(call: RecordedCall) -> Difference | None:
    if call.state == "in_doubt":
        return Difference("in_doubt_not_billed", -call.nano, -call.used_ms, call)
    if call.nano == 0:
        return None
    return Difference("not_on_the_bill", -call.nano, -call.used_ms, call)


def _billed(call: RecordedCall, line: BillLine) -> int:
    tokens = line.input_tokens, line.output_tokens, line.text_input_tokens
    return call.tariff.cost(line.millis, *tokens)


def _fits(call: RecordedCall, line: BillLine) -> bool:
    is_same = line.model == call.upstream_model and line.region in {"", call.tariff.region}
    return is_same and _least(call) <= line.millis <= _longest(call)


def _least(call: RecordedCall) -> int:
    return max(1, call.audio_ms // MILLIS) * MILLIS


def _longest(call: RecordedCall) -> int:
    return max(1, -(-call.audio_ms // MILLIS)) * MILLIS
