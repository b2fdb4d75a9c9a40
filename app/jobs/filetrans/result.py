"""The result of a finished task as its job needs it: the transcript, warnings, or an error."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.errors import AudioUnreachable, EngineRefused, GatewayError
from app.jobs.store import outcome
from app.jobs.store.job import Job
from app.jobs.upstream.engine_errors import public_error
from app.speech.engine import EngineAnswer, EngineError, ErrorKind
from app.speech.merge import PartText
from app.speech.task_engine import FileResult, FileText, TaskReport
from app.speech.warning_codes import WarningCode

_ADVICE = {
    "client_url": "Check that the URL can be read without a login, or upload the file.",
    "gateway_url": "An operator should check that this gateway's public address can be reached.",
}


def in_sequence(report: TaskReport, texts: Sequence[FileText | None]) -> Sequence[PartText]:
    """Return the files of a task as parts of one audio, one after the other.

    For the coverage, a failed file is taken to hold as much speech as the average file.
    """
    lengths = [text.text.end_ms for text in texts if text]
    usual_ms = sum(lengths) // len(lengths) if lengths else 0
    parts, at_ms = [], 0
    for file, text in zip(report.files, texts, strict=True):
        if text is not None:
            end_ms = at_ms + text.text.end_ms
            parts.append(replace(text.text, start_ms=at_ms, end_ms=end_ms))
        else:
            end_ms = at_ms
            weight = usual_ms if file.error is not None else 0
            parts.append(PartText(at_ms, end_ms, speech_ms=weight, done=file.error is None))
        at_ms = end_ms
    return parts


def length_ms(probed_ms: int | None, parts: Sequence[PartText]) -> int:
    """Return the length of the audio by its header or the result, whichever is longer."""
    return max(probed_ms or 0, *(part.end_ms for part in parts), 0)


def transcript_of(parts: Sequence[PartText], length: int, *, with_words: bool) -> dict[str, Any]:
    """Merge the parts into the columns of a transcript. Takes seconds for hours of speech."""
    ordered = [*parts[:-1], replace(parts[-1], end_ms=length)] if parts else []
    transcript = outcome.merged(ordered)
    if not with_words:
        transcript["segments"] = [{**one, "words": ()} for one in transcript["segments"]]
    return transcript


def answer_of(
    transcript: Mapping[str, Any],
    report: TaskReport,
    texts: Sequence[FileText | None],
    request_id: str | None,
) -> EngineAnswer:
    """Return the engine's answer by which the call of the task is settled and stored."""
    return EngineAnswer(
        text=transcript["text"],
        language=transcript["language"],
        emotion=transcript["emotion"],
        usage=report.usage,
        request_id=request_id,
        raw={"task": report.raw, "results": [text.raw for text in texts if text]},
    )


def task_warnings(report: TaskReport, texts: Sequence[FileText | None]) -> list[dict[str, Any]]:
    """Return the warnings of a task that is done: of its failed files, and of its results."""
    count = len(report.files)
    of_results = [
        {"code": WarningCode.ENGINE_WARNING, "detail": detail}
        for text in texts
        if text is not None
        for detail in text.warnings
    ]
    return [
        {
            "code": WarningCode.PARTLY_FAILED,
            "detail": f"File {number} of {count} was not transcribed: {file.code or 'no reason'}.",
        }
        for number, file in enumerate(report.files, 1)
        if file.error is not None
    ] + of_results


def public_error_of(job: Job, failed: FileResult, error: EngineError) -> GatewayError:
    """Return the error of a job whose task failed."""
    reason = f" Its error code is {failed.code}." if failed.code else ""
    if failed.unreadable:
        advice = _ADVICE.get(job.plan.audio_source or "", "Send it again.")
        detail = f"The speech service could not read the audio from its address.{reason} {advice}"
        return AudioUnreachable(detail, log=error.log)
    if error.kind is ErrorKind.REJECTED:
        detail = f"The speech service does not accept this audio.{reason}"
        return EngineRefused(detail, log=error.log)
    return public_error(error)
