"""Comparison of recorded calls with a provider's bill. Pure.

A call is matched with its line by the request id. A call whose answer was lost has no request id;
it is matched with a remaining line of its model whose seconds are the call's, rounded up or down.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

from app.billing.bill import MILLIS, BillLine
from app.billing.ledger import LedgerAccount
from app.billing.prices import Tariff

Kind = Literal[
    "in_doubt_billed",
    "in_doubt_not_billed",
    "failed_billed",
    "rounding",
    "unmatched",
    "not_on_the_bill",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
_KINDS_OF_BILLED: Mapping[str, Kind] = {
    "answered": "rounding",
    "in_doubt": "in_doubt_billed",
    "failed": "failed_billed",
}


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A call in the database. `nano` and `used_ms` are the sums of its ledger entries."""

    call_id: str
    state: Literal["answered", "failed", "in_doubt"]
    request_id: str | None
    upstream_model: str
    audio_ms: int
    opened_at: datetime
    account: LedgerAccount
    tariff: Tariff
    nano: int
    used_ms: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: the bill has `nano` and `millis` more than the ledger, or less."""

    kind: Kind
    nano: int
    millis: int
    call: RecordedCall | None = None
    line: BillLine | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a comparison. `matched` has every call with a line, equal or not."""

    calls: int
    lines: int
    recorded_nano: int
    billed_nano: int
    currency: str
    matched: Sequence[tuple[RecordedCall, BillLine]]
    differences: Sequence[Difference]

    @property
    def is_explained(self) -> bool:
        """Whether every line of the bill has a call. Without one it can be charged to no job."""
        return not self.of("unmatched")

    def of(self, kind: Kind) -> list[Difference]:
        return [found for found in self.differences if found.kind == kind]


@dataclass(slots=True)
class _Matches:
    """Lines by the id of their call. `remaining` lines have no call, the shortest first."""

    remaining: list[BillLine]
    repeated: list[BillLine] = field(default_factory=list)
    by_call: dict[str, BillLine] = field(default_factory=dict)

    def match_by_id(self, calls: Iterable[RecordedCall]) -> None:
        """Match lines whose request id is recorded; a second line of one id has no call."""
        ids = {call.request_id: call.call_id for call in calls if call.request_id}
        lines, self.remaining = self.remaining, []
        for line in lines:
            call_id = ids.get(line.request_id)
            if call_id is None:
                self.remaining.append(line)
            elif call_id in self.by_call:
                self.repeated.append(line)
            else:
                self.by_call[call_id] = line

    def match_by_length(self, calls: Iterable[RecordedCall]) -> None:
        """Match calls without a request id, in the order of `_matching_order`."""
        for call in sorted(calls, key=_matching_order):
            for line in self.remaining:
                is_same = line.model == call.upstream_model
                is_same = is_same and line.region in {"", call.tariff.region}
                if is_same and _min_ms(call) <= line.millis <= _max_ms(call):
                    self.remaining.remove(line)
                    self.by_call[call.call_id] = line
                    break


def compare(calls: Sequence[RecordedCall], bill: Sequence[BillLine]) -> Report:
    """Compare the calls of one provider account in the bill's period with its bill.

    Raises ValueError where the calls have several currencies.
    """
    currencies = {call.tariff.currency for call in calls}
    if len(currencies) > 1:
        raise ValueError(f"Calls in {' and '.join(sorted(currencies))} are not on one bill.")
    matches = _Matches(sorted(bill, key=lambda line: (line.millis, line.request_id)))
    matches.match_by_id(calls)
    matches.match_by_length(call for call in calls if not call.request_id)
    matched: list[tuple[RecordedCall, BillLine]] = []
    billed: list[Difference] = []
    not_billed: list[Difference] = []
    for call in calls:
        line = matches.by_call.get(call.call_id)
        if line is not None:
            matched.append((call, line))
            if nano := _billed(call, line) - call.nano:
                kind = _KINDS_OF_BILLED[call.state]
                billed.append(Difference(kind, nano, line.millis - call.used_ms, call, line))
        elif call.state == "in_doubt" or call.nano:
            kind = "in_doubt_not_billed" if call.state == "in_doubt" else "not_on_the_bill"
            not_billed.append(Difference(kind, -call.nano, -call.used_ms, call))
    unmatched = [
        Difference("unmatched", 0, line.millis, line=line)
        for line in (*matches.repeated, *matches.remaining)
    ]
    return Report(
        calls=len(calls),
        lines=len(bill),
        recorded_nano=sum(call.nano for call in calls),
        billed_nano=sum(_billed(call, line) for call, line in matched),
        currency=next(iter(currencies), ""),
        matched=matched,
        differences=[*billed, *not_billed, *unmatched],
    )


def _matching_order(call: RecordedCall) -> tuple[int, int, int, str]:
    """Sort settled calls first, then calls in doubt, then failed calls that should cost nothing.

    Among calls of one kind the shortest is first, so that most of them get a line.
    """
    is_settled = call.state == "answered" or (call.state == "failed" and call.nano > 0)
    kind = 0 if is_settled else 1 if call.state == "in_doubt" else 2
    return kind, _max_ms(call), _min_ms(call), call.call_id


def _billed(call: RecordedCall, line: BillLine) -> int:
    tokens = line.input_tokens, line.output_tokens, line.text_input_tokens
    return call.tariff.cost(line.millis, *tokens)


def _min_ms(call: RecordedCall) -> int:
    return max(1, call.audio_ms // MILLIS) * MILLIS


def _max_ms(call: RecordedCall) -> int:
    return max(1, -(-call.audio_ms // MILLIS)) * MILLIS
