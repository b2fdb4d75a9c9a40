"""The twin's rate limits, rule by rule, on a clock that the test turns."""

from collections.abc import Iterator

import httpx
import pytest

from tests.twin import Limits, Script, Twin, counting
from tests.twin.asking import Asker, compatible, data_uri, qwen3
from tests.twin.clock import Clock
from tests.twin.limits import Gate
from tests.twin.refusals import Refusal

AUDIO = data_uri(counting.encode([1]))


class Hands:
    """A clock's hands, moved by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def codes(gate: Gate, hands: Hands, times: list[float], rpm: int = 100) -> Iterator[str]:
    for hands.at in times:
        try:
            gate.admit("key", "model", rpm)
        except Refusal as refusal:
            yield refusal.code
        else:
            yield "ok"


def gate(limits: Limits, scale: float = 1.0) -> tuple[Gate, Hands]:
    hands = Hands()
    return Gate(limits, Clock(scale, hands)), hands


def test_a_minute_holds_so_many_calls() -> None:
    found = list(codes(*gate(Limits(rpm=3)), [0, 1, 2, 3, 59.9, 60, 60.5, 61]))
    over = "Throttling.RateQuota"
    assert found == ["ok", "ok", "ok", over, over, "ok", over, "ok"]


def test_the_models_own_figure_holds() -> None:
    found = list(codes(*gate(Limits(rpm=True)), [at / 100 for at in range(700)], rpm=600))
    assert found.count("ok") == 600


def test_a_second_holds_a_sixtieth() -> None:
    found = list(codes(*gate(Limits(per_second=True)), [0, 0.1, 0.2, 0.9, 1, 1.05]))
    over = "Throttling.RateQuota"
    assert found == ["ok", "ok", over, over, "ok", over]


def test_bursts_empty_a_bucket() -> None:
    found = list(codes(*gate(Limits(burst=2)), [0, 0, 0, 0.5, 0.6, 0.7]))
    over = "Throttling.BurstRate"
    assert found == ["ok", "ok", over, over, "ok", over]


def test_an_even_pace_is_never_refused() -> None:
    limits = Limits(rpm=100, per_second=True, burst=1)
    found = set(codes(*gate(limits), [at * 0.6001 for at in range(1000)]))
    assert found == {"ok"}


def test_a_fast_clock_makes_minutes_short() -> None:
    limited, hands = gate(Limits(rpm=1, retry_after=True), scale=60)
    assert list(codes(limited, hands, [0, 0.9, 1.0])) == ["ok", "Throttling.RateQuota", "ok"]
    hands.at = 1.5
    with pytest.raises(Refusal) as refused:
        limited.admit("key", "model", 100)
    assert refused.value.retry_after == pytest.approx(0.5)


def test_keys_and_models_have_limits_of_their_own() -> None:
    limited, _ = gate(Limits(rpm=1))
    for key, model in (("a", "m"), ("b", "m"), ("a", "n")):
        limited.admit(key, model, 100)
    with pytest.raises(Refusal):
        limited.admit("b", "m", 100)


@pytest.mark.anyio
@pytest.mark.parametrize("retry_after", [True, False])
async def test_the_wires_say_it(*, retry_after: bool) -> None:
    limits = Limits(rpm=1, retry_after=retry_after)
    async with Twin(words=Script("a"), limits=limits) as twin, httpx.AsyncClient() as client:
        ask = Asker(twin, client)
        await ask.native(qwen3(AUDIO))
        native, chat = await ask.native(qwen3(AUDIO)), await ask.chat(compatible(AUDIO))
    assert native.json()["message"] == "Requests rate limit exceeded, please try again later."
    assert chat.json()["error"]["code"] == "limit_requests"
    assert {native.status_code, chat.status_code} == {429}
    assert ("retry-after" in native.headers) is retry_after
    assert len(twin.bill) == 1
