"""Answers of DashScope's asynchronous route: to a submit, about a task, and result files. Pure.

An unknown form is an error. A task without speech is an empty transcript.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from app.speech.engine import EngineUsage
from app.speech.engines.dashscope.errors import NO_SPEECH, file_error
from app.speech.engines.dashscope.sentence_times import (
    MAX_MILLIS,
    MILLIS,
    SentenceTimes,
    speaker_of,
)
from app.speech.engines.dashscope.sync_responses import parse_usage
from app.speech.engines.http.failures import LOGGED_CHARACTERS, malformed_response
from app.speech.engines.http.json_reading import member, number_of, read_object, text_of
from app.speech.merge import PartText, join_texts, majority
from app.speech.storable_answer import MAX_ID_LENGTH
from app.speech.task_engine import FileResult, FileText, SubmittedTask, TaskReport, TaskStatus
from app.speech.transcript import Segment

MAX_CHANNEL = 1000
_STATUS = {
    "PENDING": TaskStatus.OPEN,
    "RUNNING": TaskStatus.OPEN,
    "SUSPENDED": TaskStatus.OPEN,
    "SUCCEEDED": TaskStatus.DONE,
    "FAILED": TaskStatus.FAILED,
    "CANCELED": TaskStatus.CANCELLED,
    "UNKNOWN": TaskStatus.UNKNOWN,
}


def parse_submitted(body: bytes) -> SubmittedTask:
    """Read the answer to a submit. Raises EngineError if it is malformed; a task may exist then.

    A task that has failed already is returned as well. Its first report tells the failure.
    """
    answer = read_object(body)
    task_id = text_of(member(answer, "output", "task_id"))
    if not task_id:
        raise malformed_response("the answer to a submit without output.task_id")
    if len(task_id) > MAX_ID_LENGTH:
        raise malformed_response(f"a task id of {len(task_id)} characters")
    return SubmittedTask(task_id, text_of(member(answer, "request_id"))[:MAX_ID_LENGTH] or None)


def parse_report(body: bytes) -> TaskReport:
    """Read the status of a task. Raises EngineError if the body is malformed."""
    answer = read_object(body)
    status = _STATUS.get(text_of(member(answer, "output", "task_status")))
    if answer is None or status is None:
        raise malformed_response("an answer without a known output.task_status")
    usage = parse_usage(answer.get("usage"))
    if status not in {TaskStatus.DONE, TaskStatus.FAILED}:
        return TaskReport(status, usage=usage, raw=answer)
    files = tuple(_file_results(answer["output"], status))
    has_result = any(file.result_url for file in files)
    if all(file.error is None for file in files):
        # A file without speech is reported as failed, and is free.
        is_used = has_result or usage.raw
        return TaskReport(TaskStatus.DONE, files, usage if is_used else EngineUsage(0.0), answer)
    return TaskReport(TaskStatus.DONE if has_result else TaskStatus.FAILED, files, usage, answer)


def parse_result(body: bytes) -> FileText:
    """Read a result file in any of its forms. Raises EngineError if it is malformed."""
    answer = read_object(body)
    if answer is None or not isinstance(answer.get("transcripts"), list):
        raise malformed_response(f"a result of {len(body)} bytes without transcripts")
    channels = [one for one in answer["transcripts"] if isinstance(one, dict)]
    segments: list[Segment] = []
    without_times: list[tuple[int | None, str]] = []
    reported = number_of(member(answer, "properties", "original_duration_in_milliseconds"))
    if reported is not None and reported > MAX_MILLIS:
        reported = None
    warnings: tuple[str, ...] = ()
    for one in channels:
        channel_id = number_of(one.get("channel_id")) if len(channels) > 1 else None
        channel = None if channel_id is None else int(min(channel_id, MAX_CHANNEL))
        times = SentenceTimes(reported)
        found = list(_read_channel(one, channel, times))
        warnings += times.warnings()
        segments += found
        if not found and (text := text_of(one.get("text"))).strip():
            without_times.append((channel, text))
    segments.sort(key=lambda segment: (segment.start, segment.end))
    last_end = max((segment.end for segment in segments), default=0.0)
    length_ms = max(int(reported or 0), round(last_end * MILLIS))
    segments += [
        Segment(start=0.0, end=length_ms / MILLIS, text=text, channel=channel)
        for channel, text in without_times
    ]
    text = text_of(channels[0].get("text")) if len(channels) == 1 else ""
    return FileText(
        PartText(
            start_ms=0,
            end_ms=length_ms,
            text=text or join_texts(segment.text for segment in segments),
            language=majority((one.language, _millis(one)) for one in segments),
            emotion=majority((one.emotion, _millis(one)) for one in segments),
            segments=tuple(segments),
            speech_ms=max(1, length_ms),
        ),
        answer,
        warnings,
    )


def _file_results(output: Mapping[str, Any], status: TaskStatus) -> Iterator[FileResult]:
    """Yield the result of each file. A task without a list of files has one file."""
    listed = output.get("results")
    files: list[Mapping[str, Any]] = []
    if isinstance(listed, list):
        files = [one for one in listed if isinstance(one, dict)]
    if not files:
        result = output.get("result")
        files = [result] if isinstance(result, dict) and status is TaskStatus.DONE else [output]
    for file in files:
        url = text_of(file.get("transcription_url"))
        code = text_of(file.get("code")) or text_of(output.get("code"))
        if url and file.get("subtask_status") != "FAILED":
            yield FileResult(url)
        elif code in NO_SPEECH:
            yield FileResult()
        else:
            error, unreadable = file_error(code)
            yield FileResult(error=error, code=code[:LOGGED_CHARACTERS], unreadable=unreadable)


def _read_channel(
    transcript: Mapping[str, Any], channel: int | None, times: SentenceTimes
) -> Iterator[Segment]:
    """Yield the sentences of a channel; none where none of them has times."""
    sentences = transcript.get("sentences")
    placed = times.place(sentences if isinstance(sentences, list) else [])
    for start, end, sentence in placed if times.has_times else ():
        yield Segment(
            start=start,
            end=end,
            text=sentence["text"],
            timing="upstream",
            language=text_of(sentence.get("language")) or None,
            emotion=text_of(sentence.get("emotion")) or None,
            speaker=speaker_of(sentence),
            channel=channel,
            words=times.words(sentence, start),
        )


def _millis(segment: Segment) -> int:
    return round((segment.end - segment.start) * MILLIS)
