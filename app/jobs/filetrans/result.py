"""What a task that ended means for its job: words, gaps, or the error that the caller is told."""

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
    "client_url": "Check that everybody can read the link, or upload the file.",
    "gateway_url": "An operator has to look whether this gateway's public address can be reached.",
}


def one_after_the_other(report: TaskReport, texts: Sequence[FileText | None]) -> Sequence[PartText]:
    """Return the files of a task as parts of one recording; what failed weighs as the others do."""
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
    """Return how long the recording is, as far as its header or the result says."""
    return max(probed_ms or 0, *(part.end_ms for part in parts), 0)


def whole(parts: Sequence[PartText], length: int, *, with_words: bool) -> dict[str, Any]:
    """Merge the parts into a transcript's row. Seconds of work for hours of words."""
    ordered = [*parts[:-1], replace(parts[-1], end_ms=length)] if parts else []
    words = outcome.merged(ordered)
    if not with_words:
        words["segments"] = [{**segment, "words": ()} for segment in words["segments"]]
    return words


def answer(
    words: Mapping[str, Any],
    report: TaskReport,
    texts: Sequence[FileText | None],
    request_id: str | None,
) -> EngineAnswer:
    """Return what is settled and stored as the answer of the task's call."""
    return EngineAnswer(
        text=words["text"],
        language=words["language"],
        emotion=words["emotion"],
        usage=report.usage,
        request_id=request_id,
        raw={"task": report.raw, "results": [text.raw for text in texts if text]},
    )


def gaps(report: TaskReport) -> list[dict[str, Any]]:
    """Say which files of a task that is done failed."""
    count = len(report.files)
    return [
        {
            "code": WarningCode.PARTLY_FAILED,
            "detail": f"File {number} of {count} was not transcribed: {file.code or 'no reason'}.",
        }
        for number, file in enumerate(report.files, 1)
        if file.error is not None
    ]


def public_error_of(job: Job, fate: FileResult, error: EngineError) -> GatewayError:
    """Return what the caller is told of a task that failed."""
    said = f" It says {fate.code}." if fate.code else ""
    if fate.unread:
        advice = _ADVICE.get(job.plan.audio_source or "", "Send it again.")
        words = f"The speech service could not read the recording from its address.{said} {advice}"
        return AudioUnreachable(words, log=error.log)
    if error.kind is ErrorKind.REJECTED:
        words = f"The speech service does not take this recording.{said}"
        return EngineRefused(words, log=error.log)
    return public_error(error)
