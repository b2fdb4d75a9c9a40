"""The simulator's bill: rounded by the seed, nothing for failures, everything for lost answers."""

import csv
import io
import wave
from collections import Counter
from itertools import count
from typing import Any

import httpx
import numpy as np
import pytest

from tests.simulator import (
    Counting,
    Delays,
    ProviderSimulator,
    Script,
    Speech,
    counting,
    speech_from,
)
from tests.simulator.bill import Bill
from tests.simulator.client import (
    SimulatorClient,
    data_uri,
    filetrans,
    input_audio,
    qwen3,
    transcription,
)

WAV = counting.encode([1, 2, 3])
LONG = data_uri(WAV[: 44 + int(2.5 * 32000)])

pytestmark = pytest.mark.anyio


def stereo(left: bytes, right: bytes) -> bytes:
    samples = [np.frombuffer(one[44:], "<i2") for one in (left, right)]
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((2, 2, 16_000, 0, "NONE", ""))
        file.writeframes(np.stack(samples, axis=1).tobytes())
    return out.getvalue()


@pytest.mark.parametrize(
    ("rounding", "lengths"),
    [
        ("floor", {0.2: 1, 1.68: 1, 2.0: 2, 2.999: 2}),
        ("ceil", {0.2: 1, 1.68: 2, 2.0: 2, 2.001: 3, 2.0004: 2}),
        ("round", {0.2: 1, 1.49: 1, 1.5: 2, 2.5: 3}),
    ],
)
def test_seconds_are_rounded_one_way(rounding: Any, lengths: dict[float, int]) -> None:
    bill = Bill(0, rounding)
    assert {length: bill.rounded(length) for length in lengths} == lengths


def test_the_seed_selects_the_rounding() -> None:
    drawn = Counter(Bill(seed).rounding for seed in range(300))
    assert set(drawn) == {"floor", "ceil", "round"}
    assert min(drawn.values()) > 70
    assert Bill(7).rounding == Bill(7).rounding


async def test_the_answer_and_the_bill_agree(capsys: pytest.CaptureFixture[str]) -> None:
    async with ProviderSimulator(seed=5, words=Script("a b"), rounding="ceil") as simulator:
        async with httpx.AsyncClient() as client:
            body = (await SimulatorClient(simulator, client).native(qwen3(LONG))).json()
        assert "seed 5" in capsys.readouterr().out
    (line,) = simulator.bill
    assert (line.request_id, line.seconds) == (body["request_id"], body["usage"]["seconds"])
    assert (line.measured_seconds, line.answered) == (2.5, True)


async def test_input_audio_is_rounded_up_and_counted_in_tokens() -> None:
    async with (
        ProviderSimulator(words=Script("a b"), rounding="floor") as simulator,
        httpx.AsyncClient() as client,
    ):
        ask = SimulatorClient(simulator, client)
        old = (await ask.native(input_audio(LONG))).json()["usage"]
        new = (await ask.native(input_audio(LONG, model="qwen-audio-3.1-asr-flash"))).json()
    assert old == {"duration": 3}
    tokens = {"input_tokens": 40, "output_tokens": 2, "total_tokens": 42}
    assert new["usage"] == {"duration": 3, **tokens}
    assert simulator.bill.lines[1].charge.input_tokens == 40


async def test_the_bill_has_charges_and_not_arrivals() -> None:
    async with ProviderSimulator(words=Script("a"), rounding="floor") as simulator:
        async with httpx.AsyncClient() as client:
            ask = SimulatorClient(simulator, client)
            for name in (None, "500", "429", "answer-lost"):
                simulator.faults.next(name)
                try:
                    await ask.native(qwen3(LONG))
                except httpx.RemoteProtocolError:
                    assert name == "answer-lost"
        rows = list(csv.DictReader(io.StringIO(simulator.bill_csv())))
    assert list(rows[0]) == [
        *("request_id", "started_at", "region", "model"),
        *("seconds", "input_tokens", "output_tokens", "text_input_tokens"),
    ]
    assert [row["seconds"] for row in rows] == ["2", "2"]
    assert simulator.bill.seconds() == 4
    assert simulator.bill.seconds(answered=True) == simulator.bill.seconds(answered=False) == 2
    assert [row["request_id"] for row in rows] == [line.request_id for line in simulator.bill]


async def test_random_faults_come_from_the_seed() -> None:
    def drawn(seed: int) -> list[str | None]:
        faults = ProviderSimulator(seed=seed, faults={"500": 0.2, "hang": 0.1}).faults
        return [fault.name if (fault := faults.draw()) else None for _ in range(1000)]

    found = Counter(drawn(1))
    assert drawn(1) == drawn(1) != drawn(2)
    assert 150 < found["500"] < 250
    assert 60 < found["hang"] < 140


def test_an_unknown_fault_is_a_mistake_of_the_test() -> None:
    with pytest.raises(KeyError):
        ProviderSimulator(faults={"meteorite": 0.1})


async def test_a_script_is_repeated() -> None:
    numbers = count()
    async with (
        ProviderSimulator(words=Script("a", "b")) as simulator,
        httpx.AsyncClient() as client,
    ):
        said = []
        while next(numbers) < 3:
            body = (await SimulatorClient(simulator, client).native(qwen3(LONG))).json()
            said.append(body["output"]["choices"][0]["message"]["content"][0]["text"])
    assert said == ["a", "b", "a"]


PLACES = {name: f"https://far.example/{name}.wav" for name in ("a", "b", "both", "spoken")}
REMOTE = {
    PLACES["a"]: WAV[: 44 + int(1.2 * 32000)],
    PLACES["b"]: WAV[: 44 + int(1.7 * 32000)],
    PLACES["both"]: stereo(WAV, WAV[: 44 + int(2.5 * 32000)] + bytes(16000)),
    PLACES["spoken"]: WAV[: 44 + 32000] + bytes(2 * 32000),
}
GONE = "http://127.0.0.1:9/gone.wav"
A, B, BOTH, SPOKEN = PLACES.values()
THIRD = "qwen-audio-3.0-asr-flash-filetrans"
FIRST = "qwen-audio-3.1-asr-flash-filetrans"
CHANNELS: dict[str, Any] = {"channel_id": [0, 1]}
CHARGED: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "each file rounded up": (transcription(A, B), {"duration": 4}),
    "failed files are free": (transcription(A, GONE), {"duration": 2}),
    "speech alone": (transcription(SPOKEN), {"duration": 1}),
    "speech of paraformer": (transcription(SPOKEN, model="paraformer-v2"), {"duration": 1}),
    "silence too in 3.x": (transcription(SPOKEN, model=THIRD), {"duration": 3}),
    "silence too in qwen3": (filetrans(SPOKEN), {"seconds": 3}),
    "qwen3 as the seed says": (filetrans(B), {"seconds": 1}),
    "one channel of two": (filetrans(BOTH), {"seconds": 3}),
    "two channels of qwen3": (filetrans(BOTH, **CHANNELS), {"seconds": 6}),
    "two channels of 3.x": (transcription(BOTH, model=THIRD, **CHANNELS), {"duration": 6}),
    "speech of two channels": (transcription(BOTH, **CHANNELS), {"duration": 6}),
    "a channel that is none": (filetrans(BOTH, channel_id=[1, 2]), {"seconds": 3}),
    "tokens": (
        transcription(B, model=FIRST),
        {"duration": 2, "input_tokens": 28, "output_tokens": 2, "total_tokens": 30},
    ),
}


@pytest.mark.parametrize(("body", "usage"), CHARGED.values(), ids=CHARGED)
async def test_tasks_are_charged_by_file_and_channel(
    body: dict[str, Any], usage: dict[str, int]
) -> None:
    async with (
        ProviderSimulator(
            words=Counting(), rounding="floor", delays=Delays(0, 0), remote=REMOTE
        ) as simulator,
        httpx.AsyncClient() as client,
    ):
        ended = await SimulatorClient(simulator, client).ended(body)
        (row,) = csv.DictReader(io.StringIO(simulator.bill_csv()))
    assert ended["usage"] == usage
    assert int(row["seconds"]) == usage.get("duration", usage.get("seconds"))
    assert int(row["input_tokens"]) == usage.get("input_tokens", 0)
    assert (row["model"], row["request_id"]) == (body["model"], simulator.tasks[0].call.request_id)
    assert [line.answered for line in simulator.bill] == [True]


async def test_speech_is_as_long_as_its_words() -> None:
    said = Speech.of(speech_from(0, 700, "One two."), speech_from(1500, 2100, "Three."))
    async with (
        ProviderSimulator(words=Script(said), delays=Delays(0, 0), remote=REMOTE) as simulator,
        httpx.AsyncClient() as client,
    ):
        ended = await SimulatorClient(simulator, client).ended(transcription(SPOKEN))
    assert ended["usage"] == {"duration": 2}


async def test_a_task_under_way_costs_nothing_yet() -> None:
    async with (
        ProviderSimulator(words=Script("a"), delays=Delays(0, 60), remote=REMOTE) as simulator,
        httpx.AsyncClient() as client,
    ):
        await SimulatorClient(simulator, client).submitted(filetrans(A))
        assert len(simulator.bill) == 0
        simulator.clock.advance(61)
        await simulator.tasks_ended()
        assert len(simulator.bill) == 1
