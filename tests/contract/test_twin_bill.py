"""What the twin charges: rounded by the seed, nothing for failures, everything for lost answers."""

import csv
import io
from collections import Counter
from itertools import count
from typing import Any

import httpx
import pytest

from tests.twin import Script, Twin, counting
from tests.twin.asking import Asker, data_uri, input_audio, qwen3
from tests.twin.bill import Bill

WAV = counting.encode([1, 2, 3])
LONG = data_uri(WAV[: 44 + int(2.5 * 32000)])

pytestmark = pytest.mark.anyio


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


def test_the_seed_draws_the_way() -> None:
    drawn = Counter(Bill(seed).rounding for seed in range(300))
    assert set(drawn) == {"floor", "ceil", "round"}
    assert min(drawn.values()) > 70
    assert Bill(7).rounding == Bill(7).rounding


async def test_the_answer_and_the_bill_agree(capsys: pytest.CaptureFixture[str]) -> None:
    async with Twin(seed=5, words=Script("a b"), rounding="ceil") as twin:
        async with httpx.AsyncClient() as client:
            body = (await Asker(twin, client).native(qwen3(LONG))).json()
        assert "seed 5" in capsys.readouterr().out
    (line,) = twin.bill
    assert (line.request_id, line.seconds) == (body["request_id"], body["usage"]["seconds"])
    assert (line.measured_seconds, line.answered) == (2.5, True)


async def test_input_audio_is_rounded_up_and_counted_in_tokens() -> None:
    async with (
        Twin(words=Script("a b"), rounding="floor") as twin,
        httpx.AsyncClient() as client,
    ):
        ask = Asker(twin, client)
        old = (await ask.native(input_audio(LONG))).json()["usage"]
        new = (await ask.native(input_audio(LONG, model="qwen-audio-3.1-asr-flash"))).json()
    assert old == {"duration": 3}
    tokens = {"input_tokens": 40, "output_tokens": 2, "total_tokens": 42}
    assert new["usage"] == {"duration": 3, **tokens}
    assert twin.bill.lines[1].charge.input_tokens == 40


async def test_the_vendors_file_tells_charges_not_arrivals() -> None:
    async with Twin(words=Script("a"), rounding="floor") as twin:
        async with httpx.AsyncClient() as client:
            ask = Asker(twin, client)
            for name in (None, "500", "429", "answer-lost"):
                twin.faults.next(name)
                try:
                    await ask.native(qwen3(LONG))
                except httpx.RemoteProtocolError:
                    assert name == "answer-lost"
        rows = list(csv.DictReader(io.StringIO(twin.bill_csv())))
    assert list(rows[0]) == [
        *("request_id", "started_at", "region", "model"),
        *("seconds", "input_tokens", "output_tokens"),
    ]
    assert [row["seconds"] for row in rows] == ["2", "2"]
    assert twin.bill.seconds() == 4
    assert twin.bill.seconds(answered=True) == twin.bill.seconds(answered=False) == 2
    assert [row["request_id"] for row in rows] == [line.request_id for line in twin.bill]


async def test_chance_comes_from_the_seed() -> None:
    def drawn(seed: int) -> list[str | None]:
        faults = Twin(seed=seed, faults={"500": 0.2, "hang": 0.1}).faults
        return [fault.name if (fault := faults.draw()) else None for _ in range(1000)]

    found = Counter(drawn(1))
    assert drawn(1) == drawn(1) != drawn(2)
    assert 150 < found["500"] < 250
    assert 60 < found["hang"] < 140


def test_an_unknown_fault_is_a_mistake_of_the_test() -> None:
    with pytest.raises(KeyError):
        Twin(faults={"meteorite": 0.1})


async def test_a_script_is_said_again_and_again() -> None:
    numbers = count()
    async with Twin(words=Script("a", "b")) as twin, httpx.AsyncClient() as client:
        said = []
        while next(numbers) < 3:
            body = (await Asker(twin, client).native(qwen3(LONG))).json()
            said.append(body["output"]["choices"][0]["message"]["content"][0]["text"])
    assert said == ["a", "b", "a"]
