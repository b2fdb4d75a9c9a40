"""Merges the texts of parts into one transcript, with times from the start of the audio.

A part that failed lowers `coverage`. A time that is known only from the cuts is `estimated`.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from app.kit.records import dataclass
from app.speech.transcript import Segment, Transcript

# Scripts written without spaces between words, with their punctuation: Thai, Lao, Tibetan,
# Burmese, Khmer, CJK symbols, kana, bopomofo, ideographs, full-width forms. Hangul has spaces.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u30ff\u3100-\u312f"
    "\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U0001b000-\U0001b16f"
    "\U00020000-\U0003ffff]"
)
_WIDE_PUNCTUATION = re.compile(
    "[\u3000-\u3003\u3008-\u301f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff65]"
)
_CLOSING = frozenset(".,!?;:)]}%…")


@dataclass(frozen=True, slots=True)
class PartText:
    """The text of one part. Its segments count from its start; all other times are absolute."""

    start_ms: int
    end_ms: int
    text: str = ""
    language: str | None = None
    emotion: str | None = None
    segments: tuple[Segment, ...] = ()
    speech_ms: int = 0
    done: bool = True


def merge_parts(parts: Sequence[PartText]) -> Transcript:
    """Return the transcript of all parts, in the order of time."""
    done = sorted((part for part in parts if part.done), key=lambda part: part.start_ms)
    speech_ms = sum(part.speech_ms for part in parts)
    return Transcript(
        text=join_texts(part.text for part in done),
        language=majority((part.language, part.speech_ms) for part in done),
        emotion=majority((part.emotion, part.speech_ms) for part in done),
        segments=tuple(segment for part in done for segment in _placed_segments(part)),
        coverage=sum(part.speech_ms for part in done) / speech_ms if speech_ms else 1.0,
    )


def join_texts(pieces: Iterable[str]) -> str:
    """Join pieces of text, with a space between two pieces where their scripts use spaces."""
    whole: list[str] = []
    for piece in pieces:
        if text := piece.strip():
            whole += [separator_between(whole[-1], text), text] if whole else [text]
    return "".join(whole)


def separator_between(left: str, right: str) -> str:
    """Return the separator between two texts: one space, or nothing."""
    if not left or not right or left[-1].isspace() or right[0].isspace():
        return ""
    before, after = left[-1], right[0]
    if after in _CLOSING or _WIDE_PUNCTUATION.match(before) or _WIDE_PUNCTUATION.match(after):
        return ""
    return "" if is_unspaced(before) and is_unspaced(after) else " "


def is_unspaced(character: str) -> bool:
    """Tell whether a character is of a script that puts no spaces between words."""
    return bool(_UNSPACED.match(character))


def has_unspaced(text: str) -> bool:
    """Tell whether a text has a character of a script that puts no spaces between words."""
    return not text.isascii() and bool(_UNSPACED.search(text))


def _placed_segments(part: PartText) -> Iterator[Segment]:
    """Yield the segments of a part with absolute times; its whole text, if it has none."""

    def at(seconds: float) -> float:
        # Engines round up, and a time after the end of the part would overlap the next part.
        return min(max(part.start_ms, part.start_ms + round(seconds * 1000)), part.end_ms) / 1000

    for segment in part.segments:
        if text := segment.text.strip():
            words = tuple(
                word.model_copy(update={"start": at(word.start), "end": at(word.end)})
                for word in segment.words
            )
            yield segment.model_copy(
                update={
                    "start": at(segment.start),
                    "end": at(segment.end),
                    "text": text,
                    "language": segment.language or part.language,
                    "emotion": segment.emotion or part.emotion,
                    "words": words,
                }
            )
    if not part.segments and (text := part.text.strip()):
        start, end = part.start_ms / 1000, part.end_ms / 1000
        yield Segment(start=start, end=end, text=text, language=part.language, emotion=part.emotion)


def majority(votes: Iterable[tuple[str | None, int]]) -> str | None:
    """Return the value with the largest weight; of equals, the earliest."""
    weights: dict[str, int] = defaultdict(int)
    for value, weight in votes:
        if value is not None:
            weights[value] += weight
    return max(weights, key=weights.__getitem__, default=None)
