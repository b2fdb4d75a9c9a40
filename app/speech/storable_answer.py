"""Makes the answer of an engine storable and bounded, before a call is settled by it. Pure.

A provider can report anything: a request id of megabytes, a usage beyond 64 bits, half a surrogate
pair. The answer is paid for all the same, so each such value is cut, replaced or left out.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.kit.json_bytes import json_bytes, storable_json
from app.kit.text import is_storable, storable
from app.speech.engine import EngineAnswer, EngineUsage
from app.speech.merge import PartText
from app.speech.transcript import Segment

MAX_ID_LENGTH = 200
MAX_LABEL_LENGTH = 20  # of a language or an emotion
MAX_SPEAKER_LENGTH = 100
MAX_WARNINGS = 20
MAX_WARNING_LENGTH = 500
MAX_USED_SECONDS = 1e7  # in one call: 115 days
MAX_TOKENS = 10**9  # of one call
MAX_USAGE_BYTES = 1 << 14
MAX_USAGE_NUMBERS = 50
MAX_USAGE_DEPTH = 16
SLACK_SECONDS = 1.0  # by which engines round the end of an audio up
LATE_TIMES = (
    "The engine returned times after the end of the audio for {} sentences. They were set to its "
    "end, so these times are not exact."
)


def storable_answer(answer: EngineAnswer, length_ms: int) -> EngineAnswer:
    """Return an answer for `length_ms` of audio whose values every column can hold.

    Times after the end of the audio become its end when parts are merged; here they get a warning.
    """
    end = length_ms / 1000 + SLACK_SECONDS
    late = sum(segment.end > end for segment in answer.segments)
    warnings = (*answer.warnings, LATE_TIMES.format(late)) if late else answer.warnings
    return replace(
        answer,
        text=storable(answer.text),
        language=_label(answer.language),
        emotion=_label(answer.emotion),
        segments=tuple(map(_storable_segment, answer.segments)),
        usage=storable_usage(answer.usage),
        request_id=_cut(answer.request_id, MAX_ID_LENGTH),
        warnings=tuple(storable(one, MAX_WARNING_LENGTH) for one in warnings[:MAX_WARNINGS]),
    )


def storable_part(part: PartText) -> PartText:
    """Return the text of a part whose values every column can hold."""
    return replace(
        part,
        text=storable(part.text),
        language=_label(part.language),
        emotion=_label(part.emotion),
        segments=tuple(map(_storable_segment, part.segments)),
    )


def storable_usage(usage: EngineUsage) -> EngineUsage:
    """Return a usage without impossible values, which count as not reported."""
    seconds, tokens = usage.seconds, (usage.input_tokens, usage.output_tokens, usage.text_tokens)
    if seconds is not None and not 0 <= seconds <= MAX_USED_SECONDS:
        seconds = None
    if not all(0 <= count <= MAX_TOKENS for count in tokens):
        tokens = (0, 0, 0)
    raw = None if usage.raw is None else _storable_raw(usage.raw)
    return EngineUsage(seconds, *tokens, raw)


def _storable_raw(usage: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the original usage; of a very long one its numbers only."""
    kept: dict[str, Any] = storable_json(dict(usage), MAX_USAGE_DEPTH)
    if len(json_bytes(kept)) <= MAX_USAGE_BYTES:
        return kept
    numbers = [
        (name[:MAX_ID_LENGTH], value)
        for name, value in kept.items()
        if isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 63)
    ]
    return dict(numbers[:MAX_USAGE_NUMBERS])


def _storable_segment(segment: Segment) -> Segment:
    words = segment.words
    if any(word.speaker is not None or not is_storable(word.text) for word in words):
        words = tuple(
            word.model_copy(
                update={
                    "text": storable(word.text),
                    "speaker": _cut(word.speaker, MAX_SPEAKER_LENGTH),
                }
            )
            for word in words
        )
    return segment.model_copy(
        update={
            "text": storable(segment.text),
            "language": _label(segment.language),
            "emotion": _label(segment.emotion),
            "speaker": _cut(segment.speaker, MAX_SPEAKER_LENGTH),
            "words": words,
        }
    )


def _label(value: str | None) -> str | None:
    return _cut(value, MAX_LABEL_LENGTH)


def _cut(value: str | None, max_length: int) -> str | None:
    return None if value is None else storable(value, max_length)
