"""Results of tasks: both shapes, words with times, channels, speakers, errors."""

import io
import wave
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.test_simulator_counting import converted
from tests.simulator import (
    Counting,
    Delays,
    ProviderSimulator,
    Script,
    Speech,
    counting,
    speech_from,
)
from tests.simulator.client import SimulatorClient, filetrans, transcription
from tests.simulator.file_host import Answer, FileHost
from tests.simulator.sentences import Word, cut, spread

HEADER = 44
BYTES = 32_000
AUDIO = counting.encode([7, 8, 9])
OTHERS = ["fun-asr", "fun-asr-mtl", "paraformer-v2", "qwen-audio-3.0-asr-flash-filetrans"]

pytestmark = pytest.mark.anyio


def wav(pcm: bytes, *, channels: int = 1, rate: int = 16_000, width: int = 2) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(pcm)
    return out.getvalue()


def interleaved(*recordings: bytes) -> bytes:
    """Combine recordings of equal length as channels."""
    samples = [np.frombuffer(one[HEADER:], "<i2") for one in recordings]
    return wav(np.stack(samples, axis=1).tobytes(), channels=len(recordings))


class Heard:
    """Submits files to a simulator as tasks."""

    def __init__(
        self, simulator: ProviderSimulator, host: FileHost, client: httpx.AsyncClient
    ) -> None:
        self.simulator = simulator
        self.host = host
        self.ask = SimulatorClient(simulator, client)

    async def ended(self, file: Answer, body: dict[str, Any]) -> dict[str, Any]:
        """Return the final answer about a task. FILE in the body is replaced by the file's URL."""
        self.host.files["/a.wav"] = file
        url = f"{self.host.url}/a.wav?signed"
        given = body["input"]
        body = {**body, "input": {"file_url": url} if "file_url" in given else {"file_urls": [url]}}
        return await self.ask.ended(body)

    async def result(self, file: Answer, body: dict[str, Any]) -> dict[str, Any]:
        output = (await self.ended(file, body))["output"]
        result = output["result"] if "result" in output else output["results"][0]
        found: dict[str, Any] = (await self.ask.client.get(result["transcription_url"])).json()
        assert found.pop("file_url") == f"{self.host.url}/a.wav?signed"
        return found

    async def code(self, file: Answer, body: dict[str, Any]) -> str:
        output = (await self.ended(file, body))["output"]
        assert output["task_status"] == "FAILED"
        if "results" in output:
            assert [one["code"] for one in output["results"]] == [output["code"]]
        assert len(self.simulator.bill) == 0
        found: str = output["code"]
        return found


@pytest.fixture
async def heard() -> AsyncIterator[Heard]:
    async with (
        FileHost({}) as host,
        ProviderSimulator(delays=Delays(0, 0), words=Counting()) as simulator,
        httpx.AsyncClient() as client,
    ):
        yield Heard(simulator, host, client)


QWEN3 = filetrans("FILE")
OTHER = transcription("FILE")


async def test_qwen3s_file_has_languages_and_emotions(heard: Heard) -> None:
    first = speech_from(0, 1440, "欢迎使用阿里云。", language="zh", emotion="happy")
    second = speech_from(2000, 2900, "Hello, world.")
    heard.simulator.service.words = Script(Speech.of(first, second))
    result = await heard.result(AUDIO, filetrans("FILE", enable_words=True))
    assert result["audio_info"] == {"format": "wav", "sample_rate": 16000}
    (transcript,) = result["transcripts"]
    assert (transcript["channel_id"], {*transcript}) == (0, {"channel_id", "text", "sentences"})
    assert transcript["text"] == "欢迎使用阿里云。Hello, world."
    chinese, english = transcript["sentences"]
    words = chinese.pop("words")
    assert chinese == {
        "sentence_id": 0,
        "begin_time": 0,
        "end_time": 1440,
        "language": "zh",
        "emotion": "happy",
        "text": "欢迎使用阿里云。",
    }
    assert words[0] == {"begin_time": 0, "end_time": 205, "text": "欢", "punctuation": ""}
    assert words[-1]["punctuation"] == "。"
    assert (english["sentence_id"], english["language"], english["emotion"]) == (1, "en", "neutral")
    assert [(word["text"], word["punctuation"]) for word in english["words"]] == [
        ("Hello", ", "),
        ("world", "."),
    ]


@pytest.mark.parametrize("model", OTHERS)
async def test_the_others_file_has_words_and_no_languages(heard: Heard, model: str) -> None:
    heard.simulator.service.words = Script("Hello world, 这里是")
    result = await heard.result(AUDIO, transcription("FILE", model=model))
    assert result["properties"] == {
        "audio_format": "pcm_s16le",
        "channels": [0],
        "original_sampling_rate": 16000,
        "original_duration_in_milliseconds": 3000,
    }
    (transcript,) = result["transcripts"]
    assert transcript["text"] == "Hello world, 这里是"
    assert transcript["content_duration_in_milliseconds"] == 3000
    (sentence,) = transcript["sentences"]
    texts = [(word["text"], word["punctuation"]) for word in sentence.pop("words")]
    assert texts == [("Hello ", ""), ("world", ", "), ("这", ""), ("里", ""), ("是", "")]
    assert sentence == {
        "sentence_id": 1,
        "begin_time": 0,
        "end_time": 3000,
        "text": "Hello world, 这里是",
    }


async def test_counting_audio_has_the_time_of_each_number(heard: Heard) -> None:
    pcm = bytes(BYTES // 2) + counting.encode([12, 345])[HEADER:] + bytes(BYTES)
    pcm += counting.encode([678])[HEADER:]
    result = await heard.result(wav(pcm), filetrans("FILE", enable_words=True))
    (transcript,) = result["transcripts"]
    assert transcript["text"] == "12 345 678"
    sentences = transcript["sentences"]
    assert [sentence["text"] for sentence in sentences] == ["12 345", "678"]
    words = [word for sentence in sentences for word in sentence["words"]]
    times = [(word["begin_time"], word["end_time"]) for word in words]
    assert times == [(500, 1500), (1500, 2500), (3500, 4500)]


async def test_words_of_qwen3_come_only_when_asked_for(heard: Heard) -> None:
    heard.simulator.service.words = Script("One. Two.")
    (plain,) = (await heard.result(AUDIO, QWEN3))["transcripts"]
    assert [sentence["text"] for sentence in plain["sentences"]] == ["One. Two."]
    assert "words" not in plain["sentences"][0]
    (worded,) = (await heard.result(AUDIO, filetrans("FILE", enable_words=True)))["transcripts"]
    assert [sentence["text"] for sentence in worded["sentences"]] == ["One.", "Two."]


async def test_the_requested_language_is_returned(heard: Heard) -> None:
    result = await heard.result(AUDIO, filetrans("FILE", language="ja"))
    assert result["transcripts"][0]["sentences"][0]["language"] == "ja"
    assert heard.simulator.calls[0].order is not None
    hinted = transcription("FILE", language_hints=["fr", "en"])
    await heard.ended(AUDIO, hinted)
    order = next(call.order for call in reversed(heard.simulator.calls) if call.order)
    assert order.language == "fr"


@pytest.mark.parametrize("body", [QWEN3, OTHER], ids=["qwen3", "others"])
async def test_channels_are_transcribed_separately(heard: Heard, body: dict[str, Any]) -> None:
    both = interleaved(counting.encode([1, 2]), counting.encode([3, 4]))
    packed = converted(both, "-f", "flac")
    for file in (both, packed):
        for wish, texts in (
            ({}, {0: "1 2"}),
            ({"channel_id": [1, 0]}, {1: "3 4", 0: "1 2"}),
            ({"channel_id": [1, 5]}, {1: "3 4"}),
        ):
            result = await heard.result(file, {**body, "parameters": wish})
            found = {one["channel_id"]: one["text"] for one in result["transcripts"]}
            assert found == texts
            assert list(found) == result.get("properties", {}).get("channels", list(texts))


async def test_a_silent_channel_is_empty(heard: Heard) -> None:
    one_side = interleaved(counting.encode([1, 2]), wav(bytes(2 * BYTES)))
    result = await heard.result(one_side, transcription("FILE", channel_id=[0, 1]))
    assert [(one["text"], len(one["sentences"])) for one in result["transcripts"]] == [
        ("1 2", 1),
        ("", 0),
    ]


async def test_speakers_are_distinguished_on_request(heard: Heard) -> None:
    heard.simulator.service.words = Script("One. Two. Three.")
    (plain,) = (await heard.result(AUDIO, OTHER))["transcripts"]
    assert not any("speaker_id" in sentence for sentence in plain["sentences"])
    wish = transcription("FILE", diarization_enabled=True, speaker_count=2)
    (found,) = (await heard.result(AUDIO, wish))["transcripts"]
    assert [sentence["speaker_id"] for sentence in found["sentences"]] == [0, 1, 0]
    spoken = speech_from(0, 500, "Yes.", speaker=4), speech_from(500, 900, "No.", speaker=1)
    heard.simulator.service.words = Script(Speech.of(*spoken))
    (named,) = (await heard.result(AUDIO, wish))["transcripts"]
    assert [sentence["speaker_id"] for sentence in named["sentences"]] == [4, 1]


async def test_file_formats_are_read_from_the_file(heard: Heard) -> None:
    packed = converted(AUDIO, "-ar", "44100", "-ac", "2", "-b:a", "64k", "-f", "mp3")
    assert (await heard.result(packed, QWEN3))["audio_info"] == {
        "format": "mp3",
        "sample_rate": 44100,
    }
    properties = (await heard.result(packed, OTHER))["properties"]
    assert (properties["audio_format"], properties["original_sampling_rate"]) == ("mp3", 44100)


LARGE = (200, {"content-length": str(2 * 1024**3 + 1)}, b"RIFF")
LONG = wav(bytes(100 * 43_201), rate=100, width=1)
VIDEO = ("-f", "lavfi", "-i", "color=size=16x16:duration=1", "-map", "1:v", "-f", "matroska")
SILENCE = wav(bytes(BYTES))
TROUBLES: dict[str, tuple[Answer, str, str]] = {
    "forbidden": (403, "FILE_403_FORBIDDEN", "InvalidFile.DownloadFailed"),
    "not there": (404, "FILE_404_NOT_FOUND", "InvalidFile.DownloadFailed"),
    "broken": (502, "FILE_SERVER_ERROR", "InvalidFile.DownloadFailed"),
    "gone": (410, "FILE_DOWNLOAD_FAILED", "InvalidFile.DownloadFailed"),
    "elsewhere": (
        (302, {"location": "http://10.0.0.1/a.wav"}, b""),
        "FILE_DOWNLOAD_FAILED",
        "InvalidFile.DownloadFailed",
    ),
    "too large": (LARGE, "FILE_TOO_LARGE", "FILE_TOO_LARGE"),
    "over 12 h": (LONG, "AUDIO_DURATION_TOO_LONG", "AUDIO_DURATION_TOO_LONG"),
    "empty": (b"", "FILE_CHECK_FAILED", "FILE_CHECK_FAILED"),
    "no audio": (b"<html>", "DECODE_ERROR", "DECODE_ERROR"),
    "nobody speaks": (
        SILENCE,
        "SUCCESS_WITH_NO_VALID_FRAGMENT",
        "SUCCESS_WITH_NO_VALID_FRAGMENT",
    ),
}


@pytest.mark.parametrize(("file", "qwen3", "other"), TROUBLES.values(), ids=TROUBLES)
async def test_a_bad_file_fails_with_its_code(
    heard: Heard, file: Answer, qwen3: str, other: str
) -> None:
    assert await heard.code(file, QWEN3) == qwen3
    assert await heard.code(file, OTHER) == other


async def test_12_hours_are_not_too_long(heard: Heard) -> None:
    heard.simulator.service.words = Script("hello")
    hours = wav(bytes(100 * 43_200), rate=100, width=1)
    assert (await heard.ended(hours, QWEN3))["usage"]["seconds"] == 43_200


async def test_a_video_without_an_audio_track_has_no_audio(heard: Heard) -> None:
    assert await heard.code(converted(AUDIO, *VIDEO), QWEN3) == "NO_INPUT_AUDIO_ERROR"
    third = transcription("FILE", channel_id=[2])
    assert await heard.code(AUDIO, third) == "NO_INPUT_AUDIO_ERROR"


async def test_3x_models_have_their_own_error_for_no_speech(heard: Heard) -> None:
    body = transcription("FILE", model="qwen-audio-3.1-asr-flash-filetrans")
    assert await heard.code(SILENCE, body) == "ASR_RESPONSE_HAVE_NO_WORDS"


async def test_speakers_of_3x_have_two_hours(heard: Heard) -> None:
    model = "qwen-audio-3.0-asr-flash-filetrans"
    hours = wav(bytes(100 * 7_201), rate=100, width=1)
    wish = transcription("FILE", model=model, diarization_enabled=True)
    assert await heard.code(hours, wish) == "AUDIO_DURATION_TOO_LONG"


LETTERS = "ab7/. ,。好云、\n'-…é"


@given(st.text(alphabet=st.sampled_from(LETTERS), max_size=40))
def test_joined_words_are_the_text(text: str) -> None:
    words = list(spread(text, 0, 900))
    assert "".join(word.whole for word in words) == text.strip()
    assert all(0 <= word.begin_ms <= word.end_ms <= 900 for word in words)


def test_sentences_end_at_pauses_marks_and_at_last() -> None:
    words = [Word("a", 0, 400, "."), Word("b", 800, 900), Word("c", 1400, 1500)]
    assert [one.text for one in cut(words, at_marks=False)] == ["a.b", "c"]
    assert [one.text for one in cut(words, at_marks=True)] == ["a.", "b", "c"]
    assert cut([], at_marks=True) == []
    endless = [Word("x ", at * 1000, at * 1000 + 1000) for at in range(50)]
    lengths = [len(one.words) for one in cut(endless, at_marks=True)]
    assert lengths == [20, 20, 10]
