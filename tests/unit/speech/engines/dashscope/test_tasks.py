"""DashScope's asynchronous route: requests, and every form of status and result.

Covers: app.speech.engines.dashscope.tasks, app.speech.engines.dashscope.task_requests,
app.speech.engines.dashscope.task_responses, app.speech.engines.dashscope.uploads
"""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.net.rate_limiter import MemorySlots, RateLimiter
from app.speech.engine import Billed, EngineError, ErrorKind
from app.speech.engines.dashscope.task_requests import (
    file_url_request,
    file_urls_request,
    submit_headers,
)
from app.speech.engines.dashscope.task_responses import parse_report, parse_result, parse_submitted
from app.speech.engines.dashscope.tasks import DashScopeTasks
from app.speech.engines.dashscope.uploads import check_upload_size, parse_policy, upload_form
from app.speech.engines.http.admission import CallAdmission
from app.speech.engines.http.provider_account import ProviderAccount
from app.speech.task_engine import FileUpload, TaskRequest, TaskStatus
from tests.contract.recordings import ALL

QWEN3, FUN = "qwen3-asr-flash-filetrans", "fun-asr"
WELCOME = "https://dashscope.oss-cn-beijing.aliyuncs.com/audios/welcome.mp3"
URL = "http://dashscope-result-bj.oss-cn-beijing.aliyuncs.com/a.json?Expires=1&Signature=s"


def body(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


# ── requests ────────────────────────────────────────────────────────────────────────────────


def test_the_qwen3_form_is_the_request_of_the_sdk() -> None:
    (sent,) = [one for one in ALL if one.name == "ds1278-filetrans-async-01"]
    order = TaskRequest(
        QWEN3,
        WELCOME,
        language="zh",
        word_timestamps=True,
        options={"enable_itn": False, "channel_id": [0], "vocabulary_id": "v"},
    )
    assert file_url_request(order) == sent.body
    assert submit_headers(order) == {"X-DashScope-Async": "enable"}


def test_the_other_form_is_the_request_of_the_sdk() -> None:
    (sent,) = [one for one in ALL if one.name == "ds1278-paraformer-async-01"]
    expected = sent.body
    del expected["resources"]  # the hot words of the first version
    expected["parameters"]["special_word_filter"] = {"system_reserved_filter": True}
    options = {
        "channel_id": [0],
        "disfluency_removal_enabled": True,
        "timestamp_alignment_enabled": True,
        "diarization_enabled": True,
        "speaker_count": 2,
        "special_word_filter": {"system_reserved_filter": True},
        "vocabulary_id": "vocab-1",
    }
    assert file_urls_request(TaskRequest("paraformer-v2", WELCOME, options=options)) == expected


def test_hints_context_and_an_upload() -> None:
    order = TaskRequest(
        "qwen-audio-3.1-asr-flash-filetrans",
        "oss://a/b.wav",
        context="x" * 500,
        options={"language_hints": ["zh", "en"]},
    )
    asked = file_urls_request(order)
    assert asked["parameters"] == {"language_hints": ["zh", "en"]}
    texts = [one["content"][0]["text"] for one in asked["input"]["context"]]
    assert [len(text) for text in texts] == [400, 100]
    assert submit_headers(order)["X-DashScope-OssResourceResolve"] == "enable"
    assert file_urls_request(TaskRequest(FUN, WELCOME))["parameters"] == {}
    assert file_url_request(TaskRequest(QWEN3, WELCOME, context="Ada"))["parameters"] == {
        "corpus": {"text": "Ada"}
    }


@pytest.mark.anyio
async def test_the_most_urgent_submit_is_next() -> None:
    admission = CallAdmission("account", RateLimiter(MemorySlots()), {}, max_concurrent_calls=1)
    tasks = DashScopeTasks(
        ProviderAccount("cn-beijing", "http://127.0.0.1:9", "sk-x"),
        {},
        admission,
        RateLimiter(MemorySlots()),
        limit_key="account",
        polls_per_minute=60,
    )
    order: list[int] = []

    async def submit(priority: int) -> None:
        async with tasks.admit(QWEN3, 10, priority):
            order.append(priority)

    async with asyncio.TaskGroup() as group, tasks.admit(QWEN3, 10):
        for priority in (0, 1, 2):
            group.create_task(submit(priority))
        for _ in range(5):
            await asyncio.sleep(0)
        assert order == []
    assert order == [2, 1, 0]


# ── the submit's answer, and reports ────────────────────────────────────────────────────────


def test_the_answer_to_a_submit() -> None:
    answer = {"output": {"task_status": "PENDING", "task_id": "t-1"}, "request_id": "r-1"}
    taken = parse_submitted(body(answer))
    assert (taken.task_id, taken.request_id) == ("t-1", "r-1")
    for broken in ({}, {"output": {}}, {"output": {"task_id": 7}}, []):
        with pytest.raises(EngineError) as caught:
            parse_submitted(body(broken))
        assert caught.value.billed is Billed.MAYBE


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("PENDING", TaskStatus.OPEN),
        ("RUNNING", TaskStatus.OPEN),
        ("SUSPENDED", TaskStatus.OPEN),
        ("CANCELED", TaskStatus.CANCELLED),
        ("UNKNOWN", TaskStatus.UNKNOWN),
    ],
)
def test_statuses_without_files(said: str, status: TaskStatus) -> None:
    report = parse_report(
        body({"request_id": "r", "output": {"task_id": "1", "task_status": said}})
    )
    assert (report.status, report.files) == (status, ())


def test_an_unknown_status_is_malformed() -> None:
    with pytest.raises(EngineError) as caught:
        parse_report(body({"output": {"task_status": "DONE"}}))
    assert caught.value.kind is ErrorKind.MALFORMED


def test_a_qwen3_task_that_succeeded() -> None:
    output = {"task_status": "SUCCEEDED", "result": {"transcription_url": URL}}
    report = parse_report(body({"output": output, "usage": {"seconds": 3}}))
    assert report.status is TaskStatus.DONE
    assert [file.result_url for file in report.files] == [URL]
    assert (report.usage.seconds, report.usage.raw) == (3, {"seconds": 3})
    assert URL not in repr(report.files)


def others(status: str, *results: dict[str, Any], **more: Any) -> bytes:
    return body(
        {"output": {"task_status": status, "results": results, **more}, "usage": {"duration": 9}}
    )


WELL = {"file_url": "u", "transcription_url": URL, "subtask_status": "SUCCEEDED"}
ILL = {"file_url": "v", "code": "InvalidFile.DownloadFailed", "subtask_status": "FAILED"}
MUTE = {"file_url": "w", "code": "SUCCESS_WITH_NO_VALID_FRAGMENT", "subtask_status": "FAILED"}


def test_a_task_that_failed_partly_is_done_and_names_the_file() -> None:
    report = parse_report(others("SUCCEEDED", WELL, ILL))
    assert report.status is TaskStatus.DONE
    assert [bool(file.result_url) for file in report.files] == [True, False]
    assert report.failure is report.files[1]
    assert (report.files[1].code, report.files[1].unreadable) == (
        "InvalidFile.DownloadFailed",
        True,
    )
    assert report.usage.seconds == 9


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_a_task_of_which_every_file_failed_has_failed(status: str) -> None:
    assert parse_report(others(status, ILL)).status is TaskStatus.FAILED


@pytest.mark.parametrize("code", ["SUCCESS_WITH_NO_VALID_FRAGMENT", "ASR_RESPONSE_HAVE_NO_WORDS"])
def test_no_speech_is_no_failure_and_free(code: str) -> None:
    qwen3 = body({"output": {"task_status": "FAILED", "code": code, "message": code}})
    for report in (parse_report(qwen3), parse_report(others("FAILED", {**MUTE, "code": code}))):
        assert (report.status, report.failure) == (TaskStatus.DONE, None)
        assert [file.result_url for file in report.files] == [None]
    assert parse_report(qwen3).usage.seconds == 0


@pytest.mark.parametrize(
    ("code", "kind", "unreadable"),
    [
        ("FILE_403_FORBIDDEN", ErrorKind.REJECTED, True),
        ("FILE_DOWNLOAD_FAILED", ErrorKind.REJECTED, True),
        ("DECODE_ERROR", ErrorKind.REJECTED, False),
        ("AUDIO_DURATION_TOO_LONG", ErrorKind.REJECTED, False),
        ("InternalError.Algo", ErrorKind.INTERNAL, False),
        ("InternalError.Timeout", ErrorKind.TIMEOUT, False),
        ("FILE_TRANS_TASK_EXPIRED", ErrorKind.INTERNAL, False),
        ("Arrearage", ErrorKind.ACCOUNT, False),
        ("", ErrorKind.INTERNAL, False),
    ],
)
def test_the_error_of_a_failed_task(code: str, kind: ErrorKind, *, unreadable: bool) -> None:
    report = parse_report(
        body({"output": {"task_status": "FAILED", "code": code, "message": "canary"}})
    )
    assert report.status is TaskStatus.FAILED
    failure = report.failure
    assert failure is not None
    assert failure.error is not None
    assert (failure.error.kind, failure.unreadable) == (kind, unreadable)
    assert failure.error.billed is Billed.NO
    assert "canary" not in failure.error.log


# ── results ─────────────────────────────────────────────────────────────────────────────────

QWEN3_RESULT = {
    "file_url": "https://x/a.mp3",
    "audio_info": {"format": "mp3", "sample_rate": 22050},
    "transcripts": [
        {
            "channel_id": 0,
            "text": "欢迎使用阿里云。",
            "sentences": [
                {
                    "sentence_id": 0,
                    "begin_time": 0,
                    "end_time": 1440,
                    "language": "zh",
                    "emotion": "neutral",
                    "text": "欢迎使用阿里云。",
                    "words": [
                        {"begin_time": 0, "end_time": 160, "text": "欢", "punctuation": ""},
                        {"begin_time": 1120, "end_time": 1440, "text": "云", "punctuation": "。"},
                    ],
                }
            ],
        }
    ],
}


def fun(channel: int, *sentences: tuple[int, int, str, int | None]) -> dict[str, Any]:
    return {
        "channel_id": channel,
        "text": " ".join(text for _, _, text, _ in sentences),
        "sentences": [
            {
                "begin_time": begin,
                "end_time": end,
                "text": text,
                "sentence_id": number,
                **({} if speaker is None else {"speaker_id": speaker}),
                "words": [{"begin_time": begin, "end_time": end, "text": text, "punctuation": "!"}],
            }
            for number, (begin, end, text, speaker) in enumerate(sentences, 1)
        ],
    }


def fun_result(*channels: dict[str, Any]) -> bytes:
    properties = {"channels": [0], "original_duration_in_milliseconds": 3834}
    return body({"file_url": "u", "properties": properties, "transcripts": list(channels)})


def test_a_qwen3_result() -> None:
    text = parse_result(body(QWEN3_RESULT)).text
    assert (text.text, text.language, text.emotion) == ("欢迎使用阿里云。", "zh", "neutral")
    (segment,) = text.segments
    assert (segment.start, segment.end, segment.timing) == (0.0, 1.44, "upstream")
    assert (segment.channel, segment.speaker) == (None, None)
    assert [word.text for word in segment.words] == ["欢", "云。"]
    assert text.end_ms == 1440


def test_a_result_of_the_other_form_with_speakers() -> None:
    result = parse_result(fun_result(fun(0, (100, 1820, "Hello", 0), (1900, 3820, "world", 1))))
    assert result.text.text == "Hello world"
    assert [segment.speaker for segment in result.text.segments] == ["0", "1"]
    assert result.text.end_ms == 3834
    assert result.text.segments[0].words[0].text == "Hello!"
    assert result.raw["properties"]["channels"] == [0]


def test_channels_become_one_transcript_in_the_order_of_time() -> None:
    left = fun(0, (0, 1000, "one", None), (2000, 3000, "three", None))
    right = fun(1, (1000, 2000, "two", None))
    text = parse_result(fun_result(left, right)).text
    assert text.text == "one two three"
    assert [(one.channel, one.text) for one in text.segments] == [
        (0, "one"),
        (1, "two"),
        (0, "three"),
    ]


def test_text_without_sentences_has_no_times() -> None:
    bare = {"channel_id": 0, "text": "only text"}
    text = parse_result(fun_result(bare)).text
    (segment,) = text.segments
    assert (text.text, segment.timing, segment.end) == ("only text", "estimated", 3.834)


@pytest.mark.parametrize("broken", [b"", b"<html>", b"[]", b"{}", b'{"transcripts": 7}'])
def test_a_result_without_transcripts_is_malformed(broken: bytes) -> None:
    with pytest.raises(EngineError) as caught:
        parse_result(broken)
    assert caught.value.kind is ErrorKind.MALFORMED


NAMES = st.sampled_from(
    [
        "transcripts",
        "sentences",
        "words",
        "text",
        "begin_time",
        "end_time",
        "channel_id",
        "output",
        "task_status",
        "results",
        "result",
        "transcription_url",
        "code",
        "usage",
        "task_id",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5)
)


@given(st.binary(max_size=50) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_an_engine_error(given_bytes: bytes) -> None:
    for parse in (parse_submitted, parse_report, parse_result, parse_policy):
        try:
            parse(given_bytes)
        except EngineError as error:
            assert error.kind is ErrorKind.MALFORMED  # noqa: PT017 - anything else is a failure


# ── the upload ──────────────────────────────────────────────────────────────────────────────


async def _bytes(form: Any) -> bytes:
    return b"".join([chunk async for chunk in form.chunks()])


@pytest.mark.anyio
async def test_the_form_has_the_file_last_and_its_length_is_known() -> None:
    policy = {
        "policy": "cA==",
        "signature": "s=",
        "upload_dir": "dashscope-instant/x",
        "upload_host": "https://dashscope-file-mgr.oss-cn-beijing.aliyuncs.com",
        "oss_access_key_id": "LTAI",
        "max_file_size_mb": 1,
    }
    parsed = parse_policy(body({"data": policy}))

    async def chunks():  # noqa: ANN202
        yield b"RI"
        yield b"FF"

    form = upload_form(parsed, FileUpload("f.wav", 4, chunks))
    sent = await _bytes(form)
    assert len(sent) == form.length
    assert sent.rindex(b'name="file"; filename="f.wav"') > sent.index(b'name="key"')
    assert b"dashscope-instant/x/f.wav" in sent
    assert b"\r\n\r\nRIFF\r\n--" in sent
    check_upload_size(parsed, 1 << 20)
    with pytest.raises(EngineError, match="takes 1 MB"):
        check_upload_size(parsed, (1 << 20) + 1)
