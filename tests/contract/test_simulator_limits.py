"""The simulator's rate limits, rule by rule, on a clock that the test sets."""

from collections.abc import Iterator

import httpx
import pytest

from tests.simulator import Limits, ProviderSimulator, Script, counting
from tests.simulator.client import (
    SimulatorClient,
    compatible,
    data_uri,
    filetrans,
    qwen3,
    transcription,
)
from tests.simulator.clock import Clock
from tests.simulator.errors import ApiError
from tests.simulator.limits import Gate
from tests.simulator.models import find

AUDIO = data_uri(counting.encode([1]))


class Hands:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def codes(gate: Gate, hands: Hands, times: list[float], rpm: int = 100) -> Iterator[str]:
    for hands.at in times:
        try:
            gate.admit("key", "model", rpm)
        except ApiError as refusal:
            yield refusal.code
        else:
            yield "ok"


def gate(limits: Limits, scale: float = 1.0) -> tuple[Gate, Hands]:
    hands = Hands()
    return Gate(limits, Clock(scale, hands)), hands


def test_rpm_limits_the_calls_of_a_minute() -> None:
    found = list(codes(*gate(Limits(rpm=3)), [0, 1, 2, 3, 59.9, 60, 60.5, 61]))
    over = "Throttling.RateQuota"
    assert found == ["ok", "ok", "ok", over, over, "ok", over, "ok"]


def test_rpm_true_is_the_models_own_limit() -> None:
    found = list(codes(*gate(Limits(rpm=True)), [at / 100 for at in range(700)], rpm=600))
    assert found.count("ok") == 600


def test_per_second_limits_a_second_to_a_sixtieth() -> None:
    found = list(codes(*gate(Limits(per_second=True)), [0, 0.1, 0.2, 0.9, 1, 1.05]))
    over = "Throttling.RateQuota"
    assert found == ["ok", "ok", over, over, "ok", over]


def test_bursts_are_limited_by_a_bucket() -> None:
    found = list(codes(*gate(Limits(burst=2)), [0, 0, 0, 0.5, 0.6, 0.7]))
    over = "Throttling.BurstRate"
    assert found == ["ok", "ok", over, over, "ok", over]


def test_calls_at_even_intervals_are_never_rejected() -> None:
    limits = Limits(rpm=100, per_second=True, burst=1)
    found = set(codes(*gate(limits), [at * 0.6001 for at in range(1000)]))
    assert found == {"ok"}


def test_a_fast_clock_makes_minutes_short() -> None:
    limited, hands = gate(Limits(rpm=1, retry_after=True), scale=60)
    assert list(codes(limited, hands, [0, 0.9, 1.0])) == ["ok", "Throttling.RateQuota", "ok"]
    hands.at = 1.5
    with pytest.raises(ApiError) as refused:
        limited.admit("key", "model", 100)
    assert refused.value.retry_after == pytest.approx(0.5)


def test_keys_and_models_have_limits_of_their_own() -> None:
    limited, _ = gate(Limits(rpm=1))
    for key, model in (("a", "m"), ("b", "m"), ("a", "n")):
        limited.admit(key, model, 100)
    with pytest.raises(ApiError):
        limited.admit("b", "m", 100)


def test_task_calls_of_a_key_share_a_second() -> None:
    limited, hands = gate(Limits(task_calls=True))
    for hands.at in (at / 20 for at in range(20)):
        limited.admit_task_call("a")
    with pytest.raises(ApiError) as refused:
        limited.admit_task_call("a")
    assert (refused.value.status, refused.value.code) == (429, "Throttling.RateQuota")
    limited.admit_task_call("b")
    hands.at = 1.0
    limited.admit_task_call("a")


def test_policies_are_limited_by_key_and_model() -> None:
    limited, _ = gate(Limits(policies=True))
    for model in ["m", "n"] * 100:
        limited.admit_policy("a", model)
    with pytest.raises(ApiError):
        limited.admit_policy("a", "m")


def test_limits_are_off_by_default() -> None:
    limited, _ = gate(Limits())
    for _ in range(500):
        limited.admit_task_call("a")
        limited.admit_policy("a", "m")


FIGURES = {
    ("qwen3-asr-flash", "cn-beijing"): 100,
    ("qwen3-asr-flash-filetrans", "cn-beijing"): 100,
    ("qwen-audio-3.1-asr-flash-filetrans", "cn-beijing"): 600,
    ("fun-asr", "cn-beijing"): 600,
    ("fun-asr-mtl", "cn-beijing"): 600,
    ("fun-asr-mtl", "ap-southeast-1"): 100,
    ("paraformer-v2", "cn-beijing"): 1_200,
    ("paraformer-v1", "cn-beijing"): 600,
    ("paraformer-8k-v2", "cn-beijing"): 1_200,
    ("paraformer-8k-v1", "cn-beijing"): 600,
}


@pytest.mark.parametrize(("named", "rpm"), FIGURES.items(), ids=str)
def test_every_model_has_a_limit(named: tuple[str, str], rpm: int) -> None:
    assert find(*named, frozenset()).requests_per_minute == rpm


@pytest.mark.anyio
async def test_all_task_calls_count_together() -> None:
    limits = Limits(task_calls=4, retry_after=True)
    async with (
        ProviderSimulator(limits=limits, clock_scale=0.01) as simulator,
        httpx.AsyncClient() as client,
    ):
        ask = SimulatorClient(simulator, client)
        answers = [
            await ask.get("/api/v1/tasks/a"),
            await ask.get("/api/v1/tasks/b"),
            await ask.get("/api/v1/tasks"),
            await ask.cancel("a"),
            await ask.get("/api/v1/tasks/a"),
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 400, 429]
        assert answers[-1].json()["code"] == "Throttling.RateQuota"
        assert int(answers[-1].headers["retry-after"]) > 1
        simulator.clock.advance(1)
        assert (await ask.get("/api/v1/tasks/a")).status_code == 200


@pytest.mark.anyio
async def test_submits_have_the_limit_of_their_model() -> None:
    async with (
        ProviderSimulator(limits=Limits(rpm=True)) as simulator,
        httpx.AsyncClient() as client,
    ):
        ask = SimulatorClient(simulator, client)
        statuses = [(await ask.submit(filetrans("x"))).status_code for _ in range(101)]
        assert statuses == [400] * 100 + [429]
        assert (await ask.submit(transcription("x"))).status_code == 400


@pytest.mark.anyio
@pytest.mark.parametrize("retry_after", [True, False])
async def test_both_wires_return_a_429(*, retry_after: bool) -> None:
    limits = Limits(rpm=1, retry_after=retry_after)
    async with (
        ProviderSimulator(words=Script("a"), limits=limits) as simulator,
        httpx.AsyncClient() as client,
    ):
        ask = SimulatorClient(simulator, client)
        await ask.native(qwen3(AUDIO))
        native, chat = await ask.native(qwen3(AUDIO)), await ask.chat(compatible(AUDIO))
    assert native.json()["message"] == "Requests rate limit exceeded, please try again later."
    assert chat.json()["error"]["code"] == "limit_requests"
    assert {native.status_code, chat.status_code} == {429}
    assert ("retry-after" in native.headers) is retry_after
    assert len(simulator.bill) == 1
