"""The gateway against the DashScope simulator: text, seconds, cost and errors over real HTTP."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.simulator import ProviderSimulator, Script
from tests.simulator.bill import ROUNDINGS, Rounding
from tests.simulator.counting import Second, encode, joined, read
from tests.support.gateway import NANO_PER_SECOND, Gateway, code_of
from tests.support.simulated_gateway import simulated_gateway

pytestmark = pytest.mark.anyio
REGIONS = ("cn-beijing", "vllm")
FAMILIES = {
    "qwen3-asr-flash": "cn-beijing",
    "qwen-audio-3.0-asr-flash": "cn-beijing",
    "vllm/qwen3-asr-1.7b": "vllm",
}
REJECTED = (422, "engine_refused")  # a 400 of a server without payments
LENGTHS = (1, 2, 7, 31, 61, 239, 241, 301, 400)
PART_SECONDS = 240
HEADER_BYTES, BYTES_PER_MS = 44, 32
PAUSE_EVERY = 7


@pytest.fixture
def folder(migrated_sqlite: Path, tmp_path: Path) -> Path:
    shutil.copy(migrated_sqlite, tmp_path / "gateway.db")
    return tmp_path


@pytest.mark.parametrize("rounding", ROUNDINGS)
async def test_used_seconds_of_the_answer_are_those_of_the_bill(
    folder: Path, rounding: Rounding
) -> None:
    sound = encode([1, 2, 3])[: HEADER_BYTES + 2_600 * BYTES_PER_MS]
    async with (
        ProviderSimulator(words=Script("你好。"), rounding=rounding) as simulator,
        simulated_gateway(simulator, folder) as there,
    ):
        body = (await there.send(sound, language="zh")).json()
    (line,) = simulator.bill
    assert line.answered
    assert line.seconds == (2 if rounding == "floor" else 3)
    assert (body["text"], body["model"], body["engine"]) == (
        "你好。",
        "qwen3-asr-flash",
        "dashscope",
    )
    assert body["usage"]["seconds"] == line.seconds
    assert body["cost"]["currency"] == "CNY"
    assert body["cost"]["nano"] == line.seconds * NANO_PER_SECOND


@pytest.mark.parametrize("model", FAMILIES)
@pytest.mark.parametrize(
    ("fault", "problem", "calls"),
    [
        ("arrearage", (503, "engine_account"), 1),
        ("bad-key", (503, "engine_account"), 1),
        ("data-inspection", REJECTED, 1),
        ("500", (502, "engine_failed"), 3),
        ("hang", (502, "upstream_in_doubt"), 2),
        ("reset-before-first-byte", (502, "upstream_in_doubt"), 2),
        ("truncated-json", (502, "upstream_in_doubt"), 2),
        ("answer-lost", (502, "upstream_in_doubt"), 2),
    ],
)
async def test_a_permanent_fault_fails_the_job_with_its_code(
    folder: Path, at_once: None, model: str, fault: str, problem: tuple[int, str], calls: int
) -> None:
    region = FAMILIES[model]
    async with (
        ProviderSimulator(regions=REGIONS) as simulator,
        simulated_gateway(simulator, folder, answer_seconds=1.0) as there,
    ):
        simulator.faults.down(region, fault)
        response = await there.send(encode([1, 2]), model=model)
    is_arrears = (region, fault) == ("vllm", "arrearage")
    expected = REJECTED if is_arrears else problem
    if region == "vllm" and expected == REJECTED:
        calls += 1  # its 400 does not say why, so the recording is tried in our own form as well
    assert code_of(response) == expected
    assert [call.region for call in simulator.calls] == [region] * calls
    assert not simulator.bill.seconds(answered=True)


@pytest.mark.parametrize("model", FAMILIES)
@pytest.mark.parametrize(
    ("fault", "problem"),
    [("429", (503, "engine_busy")), ("503", (503, "engine_unavailable"))],
)
async def test_a_retryable_fault_fails_the_job_at_the_retry_timeout(
    folder: Path, at_once: None, model: str, fault: str, problem: tuple[int, str]
) -> None:
    jobs = {"retry_timeout_seconds": 1}
    async with (
        ProviderSimulator(regions=REGIONS) as simulator,
        simulated_gateway(simulator, folder, jobs=jobs) as there,
    ):
        simulator.faults.down(FAMILIES[model], fault)
        response = await there.send(encode([1, 2]), model=model)
    assert code_of(response) == problem
    assert len(simulator.calls) > 3
    assert not len(simulator.bill)


@pytest.mark.parametrize("model", FAMILIES)
@pytest.mark.parametrize("fault", ["429-retry-after", "503", "answer-lost", "cut-short"])
async def test_a_temporary_fault_loses_no_text(
    folder: Path, at_once: None, model: str, fault: str
) -> None:
    async with (
        ProviderSimulator(regions=REGIONS) as simulator,
        simulated_gateway(simulator, folder) as there,
    ):
        simulator.faults.next(fault)
        body = (await there.send(encode([1, 2]), model=model)).json()
    assert body["text"] == "1 2"
    assert body["usage"]["seconds"] == 2
    assert simulator.bill.seconds(answered=True) == (2 if FAMILIES[model] == "cn-beijing" else 0)


async def test_no_second_is_lost_repeated_or_exchanged(folder: Path) -> None:
    random = Random(20261121)
    said = [[random.randrange(1000) for _ in range(length)] for length in LENGTHS]
    async with ProviderSimulator() as simulator, simulated_gateway(simulator, folder) as there:
        bodies = await asyncio.gather(*(counted(there, numbers) for numbers in said))
    assert {body["plan"]["as_is"] for body in bodies} == {True, False}
    for numbers, body in zip(said, bodies, strict=True):
        assert joined(heard(body)) == [Second(number) for number in numbers]
        parts = 1 if body["plan"]["as_is"] else len(numbers) / PART_SECONDS
        assert len(body["segments"]) >= parts
    assert len(simulator.calls) > len(said)
    assert sum(body["usage"]["seconds"] for body in bodies) == simulator.bill.seconds()


async def counted(gateway: Gateway, numbers: list[int]) -> dict[str, Any]:
    sound = await asyncio.to_thread(encode, numbers, pause_every=PAUSE_EVERY)
    body: dict[str, Any] = (await gateway.send(sound)).json()
    assert body["status"] == "completed", body
    return body


def heard(body: dict[str, Any]) -> Iterator[Second]:
    for segment in body["segments"]:
        yield from read(segment["text"])


async def test_a_second_with_little_speech_is_transcribed(folder: Path) -> None:
    """A second that is mostly pause, or whose speech is uncertain, is transcribed all the same.

    The clips were lost in runs of `bench.counting` with these seeds.
    """
    async with ProviderSimulator() as simulator, simulated_gateway(simulator, folder) as there:
        for seed, places in ((20261121, (461, 69)), (200081, (629,))):
            numbers = Random(seed).sample(range(1000), 1000)
            whole = encode(numbers, pause_every=PAUSE_EVERY)[HEADER_BYTES:]
            for at in places:
                clip = whole[at * 32_000 :][:32_000]
                body = (await there.send(clip, format="pcm")).json()
                assert body["text"] == str(numbers[at])
