"""Answers of DashScope's synchronous route, in every form that was seen. Pure.

An unknown form is an error. An empty content means that there is no speech.
"""

from collections.abc import Mapping
from typing import Any

from app.kit.text import without_spaces
from app.speech.engine import EngineAnswer, EngineRequest, EngineUsage
from app.speech.engines.dashscope.sentence_times import SentenceTimes, speaker_of
from app.speech.engines.dashscope.sync_requests import CONTEXT_CUT, is_context_cut
from app.speech.engines.http.failures import malformed_response, object_of
from app.speech.engines.http.json_reading import member, number_of, text_of
from app.speech.engines.http.wire_format import CUT_AT_LENGTH
from app.speech.transcript import Segment

# The places of text in the input-audio form, the most reliable one first.
_TEXTS = (
    ("output", "text"),
    ("output", "sentence", "text"),
    ("output", "output", "sentence", "text"),
    ("output", "output", "text"),
    ("text",),
    ("sentence", "text"),
)
_SENTENCES = (
    ("output", "sentences"),
    ("output", "sentence"),
    ("output", "output", "sentence"),
    ("sentence",),
)


def parse_qwen3(body: bytes) -> EngineAnswer:
    """Read the qwen3 form. Raises EngineError if the body is malformed."""
    answer = object_of(body)
    choice = member(answer, "output", "choices", 0)
    content = member(choice, "message", "content")
    if not isinstance(content, list | str):
        raise malformed_response("an answer without output.choices[0].message.content")
    annotation = annotation_of(choice)
    return EngineAnswer(
        text=content if isinstance(content, str) else content_text(content),
        language=text_of(annotation.get("language")) or None,
        emotion=text_of(annotation.get("emotion")) or None,
        usage=parse_usage(answer.get("usage")),
        request_id=text_of(answer.get("request_id")) or None,
        warnings=(CUT_AT_LENGTH,) if member(choice, "finish_reason") == "length" else (),
        raw=answer,
    )


def parse_input_audio(body: bytes, request: EngineRequest) -> EngineAnswer:
    """Read the input-audio form. Raises EngineError if the body is malformed."""
    answer = object_of(body)
    if text_in(answer) is None and not isinstance(answer.get("output"), dict):
        raise malformed_response("an answer without output")
    return read_input_audio(answer, request)


def text_in(answer: Mapping[str, Any]) -> str | None:
    """Return the text of the input-audio form, or None if there is no place for it."""
    found = [value for path in _TEXTS if isinstance(value := member(answer, *path), str)]
    return next((value for value in found if value.strip()), "") if found else None


def read_input_audio(answer: Mapping[str, Any], request: EngineRequest) -> EngineAnswer:
    """Read the JSON object of an input-audio answer. Word times are kept if they were requested."""
    text = text_in(answer) or ""
    segments, warnings = _read_sentences(answer, text)
    if not request.word_timestamps:
        segments = tuple(segment.model_copy(update={"words": ()}) for segment in segments)
    return EngineAnswer(
        text=text,
        segments=segments,
        usage=parse_usage(answer.get("usage") or member(answer, "output", "usage")),
        request_id=text_of(answer.get("request_id")) or None,
        warnings=(CONTEXT_CUT, *warnings) if is_context_cut(request.context) else warnings,
        raw=answer,
    )


def parse_usage(usage: Any) -> EngineUsage:
    """Read the usage: seconds under two names, tokens as a sum or as details only."""
    if not isinstance(usage, dict):
        return EngineUsage()
    seconds = number_of(usage.get("seconds"))
    return EngineUsage(
        seconds=number_of(usage.get("duration")) if seconds is None else seconds,
        input_tokens=_count_tokens(usage, "input_tokens"),
        output_tokens=_count_tokens(usage, "output_tokens"),
        raw=usage,
    )


def annotation_of(choice: Any) -> Mapping[str, Any]:
    """Return the annotation of a choice: language and emotion. Empty if there is none."""
    annotation = member(choice, "message", "annotations", 0)
    return annotation if isinstance(annotation, dict) else {}


def content_text(content: list[Any]) -> str:
    """Return the text of the content of a message."""
    return "".join(text_of(member(piece, "text")) for piece in content)


def _count_tokens(usage: Mapping[str, Any], name: str) -> int:
    whole = number_of(usage.get(name))
    if whole is not None:
        return int(whole)
    details = usage.get(f"{name}_details")
    counts = details.values() if isinstance(details, dict) else ()
    return int(sum(number_of(count) or 0 for count in counts))


def _read_sentences(
    answer: Mapping[str, Any], text: str
) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
    """Return the sentences as segments, unless they are not all of the text, with warnings."""
    for path in _SENTENCES:
        value = member(answer, *path)
        times = SentenceTimes(None)
        segments = tuple(
            Segment(
                start=start,
                end=end,
                text=sentence["text"],
                timing="upstream",
                speaker=speaker_of(sentence),
                words=times.words(sentence, start),
            )
            for start, end, sentence in times.place(value if isinstance(value, list) else [value])
        )
        is_whole = without_spaces("".join(s.text for s in segments)) == without_spaces(text)
        if segments and times.has_times and is_whole:
            return segments, times.warnings()
    return (), ()
