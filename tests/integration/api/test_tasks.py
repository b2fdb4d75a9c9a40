"""Audio transcribed by a provider's task: its URL, its result and its cost."""

from pathlib import Path
from typing import Any

import pytest

from tests.simulator import Script
from tests.simulator.speech import Ask, Speech
from tests.support.gateway import code_of
from tests.support.task_gateway import FILETRANS, THREE_SECONDS, task_gateway

pytestmark = pytest.mark.anyio
FAR = "https://far.example/a.wav"


async def test_an_upload_uses_the_providers_temporary_storage(
    database_url: str, tmp_path: Path
) -> None:
    async with task_gateway(tmp_path, database=database_url) as here:
        response = await here.send()
        body = response.json()
        assert (response.status_code, body["status"]) == (200, "completed"), body
        assert body["text"] == "1 2 3"
        assert body["plan"]["kind"] == "filetrans"
        assert (body["plan"]["audio_source"], body["plan"]["as_is"]) == ("provider_upload", True)
        assert "temporary storage" in body["plan"]["reason"]
        assert body["task_id"] == here.simulator.tasks[0].id
        (submit,) = here.submits
        assert submit["input"]["file_url"].startswith("oss://dashscope-instant/")
        assert submit["input"]["file_url"].endswith(".wav")
        (segment, *_) = body["segments"]
        assert (segment["timing"], segment["words"], segment["channel"]) == ("upstream", [], None)
        assert (segment["language"], segment["emotion"]) == ("en", "neutral")
        assert await here.calls() == [("answered", "yes")]
        assert await here.lines() == ["hold", "settle", "release"]
        await here.assert_settled()
        told = await here.events()
        assert [name for name, _ in told] == [
            *("created", "progress", "progress", "segment", "completed")
        ]
        assert [data["done_seconds"] for name, data in told if name == "progress"] == [0, 3]
        assert told[3][1]["text"] == body["text"]
        (row,) = await here.parts()
        assert (row["state"], row["start_ms"], row["end_ms"]) == ("done", 0, 3_000)


async def test_a_public_url_is_passed_on_and_never_fetched(
    database_url: str, tmp_path: Path
) -> None:
    remote = {f"{FAR}?sig=canary": THREE_SECONDS}
    async with task_gateway(tmp_path, database=database_url, remote=remote) as here:
        body = (await here.link(f"{FAR}?sig=canary")).json()
        assert (body["status"], body["text"]) == ("completed", "1 2 3")
        assert (body["plan"]["audio_source"], body["audio"], body["progress"]) == (
            "client_url",
            None,
            1.0,
        )
        assert "from the URL of the request" in body["plan"]["reason"]
        assert here.submits[0]["input"]["file_url"] == f"{FAR}?sig=canary"
        assert (await here.job())["source_url"] is None
        await here.assert_settled()
        (row,) = await here.parts()
        assert 2_500 <= row["end_ms"] <= 3_000
        audio = await here.gateway.get(f"/v1/transcriptions/{body['id']}/audio")
        assert code_of(audio) == (409, "audio_not_fetched")
        everything = str([await here.job(), await here.parts(), await here.events()])
        assert "canary" not in everything


@pytest.mark.parametrize(
    "model", ["fun-asr", "paraformer-v2", "qwen-audio-3.0-asr-flash-filetrans"]
)
async def test_models_of_the_other_format_return_words_and_speakers(
    tmp_path: Path, model: str
) -> None:
    options: dict[str, Any] = {
        "diarization_enabled": "true",
        "speaker_count": "2",
        "timestamp_granularities": "word",
        "language": "en",
        "vocabulary_id": "vocab-1",
        "special_word_filter": '{"system_reserved_filter": true}',
    }
    async with task_gateway(tmp_path, words=Script("One two. Three four.")) as here:
        body = (await here.send(model=model, **options)).json()
        assert body["status"] == "completed", body
        (submit,) = here.submits
        (url,) = submit["input"]["file_urls"]
        assert url.startswith("oss://")
        expected = {
            "diarization_enabled": True,
            "speaker_count": 2,
            "vocabulary_id": "vocab-1",
            "special_word_filter": {"system_reserved_filter": True},
            "language_hints": ["en"],
        }
        assert submit["parameters"] == expected
        assert [segment["speaker"] for segment in body["segments"]] == ["0", "1"]
        words = [word["text"].strip() for word in body["segments"][0]["words"]]
        assert words == ["One", "two."]
        assert body["warnings"] == []
        await here.assert_settled()


async def test_channels_are_merged_by_their_times(tmp_path: Path, stereo: bytes) -> None:
    def said(_audio: Any, order: Any) -> Speech:
        return Speech("Left one. Left two." if order.channel == 0 else "Right.")

    async with task_gateway(tmp_path, words=Ask(said)) as here:
        body = (await here.send(stereo, channel_id="0,1")).json()
        assert body["status"] == "completed", body
        assert here.submits[0]["parameters"]["channel_id"] == [0, 1]
        assert {segment["channel"] for segment in body["segments"]} == {0, 1}
        starts = [segment["start"] for segment in body["segments"]]
        assert starts == sorted(starts)
        await here.assert_settled()
        mixed = (await here.send(stereo)).json()
        assert (mixed["plan"]["as_is"], mixed["status"]) == (False, "completed")
        assert "mixed into one" in mixed["plan"]["reason"]
        assert here.submits[1]["input"]["file_url"].endswith(".flac")
        assert here.simulator.tasks[1].subtasks[0].seconds == pytest.approx(2.0, abs=0.1)
        refused = await here.send(stereo, channel_id="2")
        assert code_of(refused) == (422, "invalid_parameter")
        assert len(here.gateway.blobs()) == 1 + 0  # the mixed copy is gone


async def test_word_times_replace_the_model_with_its_task_model(tmp_path: Path) -> None:
    async with task_gateway(tmp_path) as here:
        body = (await here.send(model="qwen3-asr-flash", timestamp_granularities="word")).json()
        assert (body["model"], body["plan"]["kind"]) == (FILETRANS, "filetrans")
        replaced = "qwen3-asr-flash-filetrans replaces qwen3-asr-flash for times of words"
        assert replaced in body["plan"]["reason"]
        assert here.submits[0]["parameters"] == {"enable_words": True}
        assert body["segments"][0]["words"][0]["text"].strip() == "1"
        plain = (await here.send(model="qwen3-asr-flash")).json()
        assert (plain["model"], plain["plan"]["kind"]) == ("qwen3-asr-flash", "direct")


@pytest.mark.parametrize("model", [FILETRANS, "fun-asr"])
async def test_silence_is_an_empty_transcript_that_costs_nothing(
    tmp_path: Path, model: str
) -> None:
    async with task_gateway(tmp_path, words=Script("")) as here:
        body = (await here.send(model=model)).json()
        assert (body["status"], body["text"], body["segments"]) == ("completed", "", []), body
        assert body["cost"]["nano"] == 0
        assert len(here.simulator.bill) == 0


async def test_a_task_without_a_reachable_url_is_rejected(tmp_path: Path) -> None:
    async with task_gateway(tmp_path, temporary_upload=False) as here:
        response = await here.send()
        assert code_of(response) == (422, "audio_unreachable")
        assert "public https:// `url`" in response.json()["detail"]
        assert here.gateway.blobs() == []
        words = await here.send(model="qwen3-asr-flash", timestamp_granularities="word")
        assert words.json()["model"] == "qwen3-asr-flash"
        assert [one["code"] for one in words.json()["warnings"]] == ["option_ignored"]
        assert here.submits == []
