"""Audio in a format the model accepts is sent byte for byte; any other audio is decoded first.

Covers: app.jobs.execution.as_received
"""

import base64
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest

from app.audio.ffmpeg import Decoders
from app.jobs.tables import part
from tests.simulator import ProviderSimulator, Script
from tests.simulator.calls import Call
from tests.simulator.counting import Second, encode, read
from tests.support.gateway import NANO_PER_SECOND, SPEECH, Gateway, code_of
from tests.support.simulated_gateway import simulated_gateway

pytestmark = pytest.mark.anyio
QWEN3, INPUT_AUDIO = "qwen3-asr-flash", "qwen-audio-3.0-asr-flash"
NOISE = ("-f", "lavfi", "-i", "anoisesrc=sample_rate=16000:amplitude=0.2:seed=7")


@pytest.fixture
async def simulator() -> AsyncIterator[ProviderSimulator]:
    async with ProviderSimulator(words=Script("你好。")) as running:
        yield running


@pytest.fixture
async def there(
    simulator: ProviderSimulator, migrated_sqlite: Path, tmp_path: Path
) -> AsyncIterator[Gateway]:
    """A gateway with the simulator as its provider."""
    shutil.copy(migrated_sqlite, tmp_path / "gateway.db")
    async with simulated_gateway(simulator, tmp_path) as gateway:
        yield gateway


def made(path: Path, *arguments: str, source: Sequence[str] = ("-i", str(SPEECH))) -> bytes:
    """Return the speech sample, or another source, encoded by FFmpeg."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *source, *arguments, str(path)]
    subprocess.run(command, check=True)
    return path.read_bytes()


def got(call: Call) -> tuple[str, bytes]:
    """Return the media type and the bytes that the simulator received."""
    head, _, body = call.place.partition(",")
    return head.removeprefix("data:").removesuffix(";base64"), base64.b64decode(body)


@pytest.mark.parametrize("model", [QWEN3, INPUT_AUDIO])
@pytest.mark.parametrize(
    ("name", "arguments", "media_type", "form"),
    [
        ("a.mp3", "-ar 44100 -b:a 128k", "audio/mpeg", "mp3"),
        ("vbr.mp3", "-q:a 5 -write_id3v1 1", "audio/mpeg", "mp3"),
        ("a.opus", "-c:a libopus", "audio/ogg", "opus"),
        ("a.wav", "-ar 48000", "audio/wav", "wav"),
    ],
)
async def test_suitable_files_are_sent_as_received_without_a_decoder(
    simulator: ProviderSimulator,
    there: Gateway,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    model: str,
    name: str,
    arguments: str,
    media_type: str,
    form: str,
) -> None:
    def no_child(*_: object, **__: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr(Decoders, "open", no_child)
    monkeypatch.setattr("app.jobs.execution.decoded.open_decoding", no_child)
    monkeypatch.setattr("app.jobs.execution.as_received.open_decoding", no_child)
    monkeypatch.setattr("app.jobs.upstream.caller.encode_flac", no_child)
    sound = made(tmp_path / name, *arguments.split())
    body = (await there.send(sound, model=model)).json()
    (call,), (line,), (row,) = simulator.calls, simulator.bill, await there.rows(part)
    assert (body["status"], body["text"], body["warnings"]) == ("completed", "你好。", [])
    assert got(call) == (media_type, sound)
    assert call.order is not None
    assert call.order.options.get("format") == (form if model == INPUT_AUDIO else None)
    assert (body["plan"]["kind"], body["plan"]["as_is"]) == ("direct", True)
    assert body["audio"]["seconds"] == 10.39
    assert call.seconds == pytest.approx(10.39, abs=0.001)
    assert body["usage"]["seconds"] == line.seconds
    assert body["cost"]["nano"] == line.seconds * NANO_PER_SECOND
    assert (row["start_ms"], row["end_ms"], row["speech_ms"]) == (0, 10_390, 10_390)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("stereo.mp3", "-ac 2"),
        ("a.flac", ""),
        ("a.m4a", ""),
        ("a.ogg", "-c:a libvorbis"),
        ("24.wav", "-c:a pcm_s24le"),
        ("short.mp3", "-t 0.9"),
        ("large.wav", "-ar 384000"),
    ],
)
async def test_other_files_are_sent_as_flac(
    simulator: ProviderSimulator, there: Gateway, tmp_path: Path, name: str, arguments: str
) -> None:
    body = (await there.send(made(tmp_path / name, *arguments.split()))).json()
    assert (body["status"], body["plan"]["as_is"]) == ("completed", False)
    assert {got(call)[0] for call in simulator.calls} == {"audio/flac"}


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("name", ["vbr.mp3", "a.ogg", "a.opus", "a.wav"])
async def test_a_truncated_file_always_has_a_warning(
    simulator: ProviderSimulator, there: Gateway, tmp_path: Path, name: str, share: float
) -> None:
    whole = made(tmp_path / name, *(("-q:a", "5") if name == "vbr.mp3" else ()))
    body = (await there.send(whole[: int(len(whole) * share)])).json()
    assert not body["plan"]["as_is"]
    assert {got(call)[0] for call in simulator.calls} == {"audio/flac"}
    assert [warning["code"] for warning in body["warnings"]] == ["audio_damaged"]


async def test_audio_longer_than_one_call_is_split(
    simulator: ProviderSimulator, there: Gateway, tmp_path: Path
) -> None:
    sound = made(tmp_path / "long.mp3", "-t", "301", "-b:a", "16k", source=NOISE)
    body = (await there.send(sound)).json()
    assert (body["plan"]["kind"], body["plan"]["as_is"]) == ("split", False)


@pytest.mark.parametrize("kind", ["mp3", "flac"])
async def test_split_off_is_one_call_up_to_the_models_limit(
    simulator: ProviderSimulator, there: Gateway, tmp_path: Path, kind: str
) -> None:
    speech = ("-stream_loop", "-1", "-i", str(SPEECH))
    sound = made(tmp_path / f"long.{kind}", "-t", "300", "-ar", "44100", source=speech)
    body = (await there.send(sound, split="off")).json()
    (call,) = simulator.calls
    assert (body["status"], body["plan"]["kind"]) == ("completed", "direct")
    assert body["plan"]["as_is"] is (kind == "mp3")
    assert call.seconds == pytest.approx(300, abs=1.5)  # silence at the edges is left out


async def test_split_off_with_longer_audio_is_an_error_with_the_limit(
    simulator: ProviderSimulator, there: Gateway, tmp_path: Path
) -> None:
    for kind in ("mp3", "flac"):
        sound = made(tmp_path / f"long.{kind}", "-t", "301", source=NOISE)
        refused = await there.send(sound, split="off")
        assert code_of(refused) == (422, "audio_too_long")
        assert "qwen3-asr-flash accepts 300 s" in refused.json()["detail"]
    assert there.blobs() == []
    assert simulator.calls == []


async def test_split_off_with_unknown_length_is_rejected_during_decoding(
    simulator: ProviderSimulator, there: Gateway, tmp_path: Path
) -> None:
    sound = made(tmp_path / "long.aac", "-t", "301", "-c:a", "aac", source=NOISE)
    unknown = bytearray(made(tmp_path / "long.wav", "-t", "301", source=NOISE))
    at = unknown.index(b"data") + 4
    unknown[at : at + 4] = unknown[4:8] = b"\xff\xff\xff\xff"
    for endless in (sound, bytes(unknown)):
        refused = await there.send(endless, split="off")
        assert code_of(refused) == (422, "audio_too_long")
        assert "qwen3-asr-flash accepts 300 s" in refused.json()["detail"]
    assert simulator.calls == []


async def test_raw_pcm_is_decoded_at_the_requested_sample_rate(
    migrated_sqlite: Path, tmp_path: Path
) -> None:
    shutil.copy(migrated_sqlite, tmp_path / "gateway.db")
    numbers = [4, 8, 15, 16]
    pcm = encode(numbers)[44:]
    async with ProviderSimulator() as simulator, simulated_gateway(simulator, tmp_path) as there:
        first = (await there.send(pcm, format="pcm")).json()
        again = (await there.send(pcm, format="pcm", sample_rate="8000")).json()
        labelled = await there.client.post(
            "/v1/transcriptions", files={"file": ("a", pcm, "audio/L16;rate=16000")}
        )
        uri = "data:audio/pcm;base64," + base64.b64encode(pcm).decode()
        inline = await there.client.post("/v1/transcriptions", json={"audio": uri})
    for body in (first, labelled.json(), inline.json()):
        assert heard(body) == [Second(number) for number in numbers]
        assert (body["audio"]["format"], body["audio"]["seconds"]) == ("pcm", 4.0)
        assert body["audio"]["id"] == first["audio"]["id"]
    assert again["audio"]["id"] != first["audio"]["id"]
    assert (again["audio"]["sample_rate"], again["audio"]["seconds"]) == (8_000, 8.0)
    assert (first["audio"]["sample_rate"], again["warnings"]) == (16_000, [])
    assert {got(call)[0] for call in simulator.calls} == {"audio/flac"}


def heard(body: dict[str, Any]) -> list[Second]:
    return [second for segment in body["segments"] for second in read(segment["text"])]


async def test_an_odd_number_of_pcm_bytes_is_rejected(there: Gateway) -> None:
    refused = await there.send(bytes(32_001), format="pcm")
    assert code_of(refused) == (422, "invalid_parameter")
    assert "not a whole number of 16 bit samples" in refused.json()["detail"]
    assert there.blobs() == []
