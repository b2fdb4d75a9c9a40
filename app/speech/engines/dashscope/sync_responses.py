"""What DashScope's synchronous route answers, in every shape that was seen. Pure.

A shape that cannot be told is an error; an empty content is nobody speaking.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from app.speech.engine import EngineAnswer, EngineUsage
from app.speech.engines.http.json_body import (
    CUT_AT_LENGTH,
    malformed_response,
    member,
    number,
    read_object,
    text_of,
)
from app.speech.transcript import Segment, Word

MILLIS = 1000
# Where the input-audio shape was seen to put its words, the most trusted place first.
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
    """Read the qwen3 shape. Raises EngineError (garbled)."""
    answer = _object(body)
    choice = member(answer, "output", "choices", 0)
    content = member(choice, "message", "content")
    if not isinstance(content, list | str):
        raise malformed_response("an answer without output.choices[0].message.content")
    noted = _annotation(choice)
    return EngineAnswer(
        text=content if isinstance(content, str) else joined(content),
        language=text_of(noted.get("language")) or None,
        emotion=text_of(noted.get("emotion")) or None,
        usage=parse_usage(answer.get("usage")),
        request_id=text_of(answer.get("request_id")) or None,
        warnings=(CUT_AT_LENGTH,) if member(choice, "finish_reason") == "length" else (),
        raw=answer,
    )


def parse_input_audio(body: bytes) -> EngineAnswer:
    """Read the input-audio shape. Raises EngineError (garbled)."""
    answer = _object(body)
    if text_in(answer) is None and not isinstance(answer.get("output"), dict):
        raise malformed_response("an answer without output")
    return read_input_audio(answer)


def text_in(answer: Mapping[str, Any]) -> str | None:
    """Return the text of the input-audio shape, wherever it is; None where it has no place."""
    found = [value for path in _TEXTS if isinstance(value := member(answer, *path), str)]
    return next((value for value in found if value.strip()), "") if found else None


def read_input_audio(answer: Mapping[str, Any]) -> EngineAnswer:
    """Read an answer of the input-audio shape that is known to be one."""
    text = text_in(answer) or ""
    return EngineAnswer(
        text=text,
        segments=_segments(answer, text),
        usage=parse_usage(answer.get("usage") or member(answer, "output", "usage")),
        request_id=text_of(answer.get("request_id")) or None,
        raw=answer,
    )


def parse_usage(usage: Any) -> EngineUsage:
    """Read what was used: seconds by either name; tokens whole, or only in their details."""
    if not isinstance(usage, dict):
        return EngineUsage()
    seconds = number(usage.get("seconds"))
    return EngineUsage(
        seconds=number(usage.get("duration")) if seconds is None else seconds,
        input_tokens=_tokens(usage, "input_tokens"),
        output_tokens=_tokens(usage, "output_tokens"),
        raw=usage,
    )


def _object(body: bytes) -> dict[str, Any]:
    answer = read_object(body)
    if answer is None:
        raise malformed_response(f"an answer of {len(body)} bytes that is not a JSON object")
    return answer


def _annotation(choice: Any) -> Mapping[str, Any]:
    noted = member(choice, "message", "annotations", 0)
    return noted if isinstance(noted, dict) else {}


def joined(content: list[Any]) -> str:
    """Return the text of a message's content."""
    return "".join(text_of(member(piece, "text")) for piece in content)


def _tokens(usage: Mapping[str, Any], name: str) -> int:
    whole = number(usage.get(name))
    if whole is not None:
        return int(whole)
    details = usage.get(f"{name}_details")
    counts = details.values() if isinstance(details, dict) else ()
    return int(sum(number(count) or 0 for count in counts))


def _segments(answer: Mapping[str, Any], text: str) -> tuple[Segment, ...]:
    """Return the sentences' own times, unless the sentences are not all of the text."""
    for path in _SENTENCES:
        value = member(answer, *path)
        listed = value if isinstance(value, list) else [value]
        segments = tuple(_read_segments(listed))
        if segments and squeezed("".join(s.text for s in segments)) == squeezed(text):
            return segments
    return ()


def _read_segments(sentences: list[Any]) -> Iterator[Segment]:
    for sentence in sentences:
        start, end = _span(sentence)
        if start is not None and end is not None and text_of(member(sentence, "text")).strip():
            yield Segment(
                start=start,
                end=end,
                text=sentence["text"],
                timing="upstream",
                speaker=_speaker(sentence),
                words=tuple(read_words(sentence)),
            )


def read_words(sentence: Mapping[str, Any]) -> Iterator[Word]:
    """Read the words of a sentence, as all of DashScope's shapes have them."""
    words = sentence.get("words")
    for word in words if isinstance(words, list) else ():
        start, end = _span(word)
        if start is not None and end is not None:
            text = text_of(word.get("text")) + text_of(word.get("punctuation"))
            yield Word(start=start, end=end, text=text, speaker=_speaker(word))


def _span(timed: Any) -> tuple[float | None, float | None]:
    start, end = number(member(timed, "begin_time")), number(member(timed, "end_time"))
    if start is None or end is None or end < start:
        return None, None
    return start / MILLIS, end / MILLIS


def _speaker(timed: Mapping[str, Any]) -> str | None:
    speaker = timed.get("speaker_id")
    return None if speaker is None else str(speaker)


def squeezed(text: str) -> str:
    """Return a text without its white space, to be compared."""
    return "".join(text.split())
