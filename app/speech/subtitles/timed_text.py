"""A segment as the pieces that cues are made of, each with its time and its speaker.

The times of words count where the words spell the segment's text, punctuation apart; else the
segment's time is shared out evenly.
"""

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from app.speech.subtitles.line_breaks import SENTENCE, TORN, cleaned, columns, ease, pieces
from app.speech.transcript import Segment, Word

Side = Literal["start", "end"]

_PAUSE_WORTH_MS = 20  # of silence between two words: a column of imbalance
_MOST_PAUSE_WORTH = 30
_LETTERS_A_WORD = 1.4  # fewer, and the engine's words are characters


@dataclass(slots=True)
class Piece:
    """The least text that is kept together; times in milliseconds.

    `columns` counts the space behind it, `width` does not. `ease` says how well a text is cut
    behind it (`line_breaks.ease`). `is_timed`: by words, not by sharing out.
    """

    text: str
    start: int
    end: int
    columns: int
    width: int
    ease: int
    speaker: str | None
    is_timed: bool


def spoken(segment: Segment, most: int) -> list[Piece]:
    """Return the pieces of a segment's text in order, none wider than `most` columns."""
    text = cleaned(segment.text)
    if not text:
        return []
    letters = _letters(text)
    spelt = _letters("".join(word.text for word in segment.words))
    words = segment.words if letters and letters == spelt else ()
    found = list(_timed(segment, words, pieces(text, most)))
    _judge(found, words)
    return found


def _timed(segment: Segment, words: tuple[Word, ...], cut: Iterator[str]) -> Iterator[Piece]:
    said = words or (Word(start=segment.start, end=segment.end, text=segment.text),)
    at, speaker_at = _clock(said, counts=_letters if words else _inked)
    count = _letters if words else _inked
    passed = latest = 0
    for text in cut:
        behind = passed + len(count(text))
        start = latest = max(latest, at(passed, "start"))
        end = latest = max(latest, at(behind, "end"))
        speaker = speaker_at(passed) or segment.speaker
        width = columns(text.rstrip())
        yield Piece(text, start, end, width + len(text) - len(text.rstrip()), width, 0, speaker, bool(words))  # fmt: skip  # noqa: E501
        passed = behind


def _judge(found: list[Piece], words: tuple[Word, ...]) -> None:
    """Say of each piece how well the text is cut behind it."""
    edges = _edges(words)
    passed = 0
    for piece, following in pairwise(found):
        worth = ease(piece.text, following.text)
        if edges:  # where no space does, the words say which cuts tear
            passed += len(_letters(piece.text))
            if not piece.text.endswith(" "):
                worth = max(worth, 0) if passed in edges else min(worth, TORN)
        if piece.is_timed:
            pause = max(0, following.start - piece.end)
            worth += min(pause // _PAUSE_WORTH_MS, _MOST_PAUSE_WORTH)
        piece.ease = worth
    if found:
        found[-1].ease = SENTENCE


def _edges(words: tuple[Word, ...]) -> frozenset[int]:
    """Return behind how many letters a word ends; nothing where words are no more than letters."""
    ends, passed = [], 0
    for word in words:
        passed += len(_letters(word.text))
        ends.append(passed)
    return frozenset(ends) if passed > len(ends) * _LETTERS_A_WORD else frozenset()


def _letters(text: str) -> str:
    """Return what is spoken of a text: letters with their marks, and digits."""
    return "".join(c for c in text if unicodedata.category(c)[0] in "LMN").lower()


def _inked(text: str) -> str:
    return "".join(text.split())


def _clock(
    words: tuple[Word, ...], counts: Callable[[str], str]
) -> tuple[Callable[[int, Side], int], Callable[[int], str | None]]:
    """Return at which millisecond so many characters have been said, and who says the next.

    Where a word ends and the next begins, the side chooses between the two times.
    """
    marks: list[tuple[int, float]] = []
    begins: list[int] = []
    said = 0
    for word in words:
        begins.append(said)
        marks.append((said, word.start))
        said += len(counts(word.text))
        marks.append((said, word.end))
    ends = [count for count, _ in marks]

    def at(count: int, side: Side) -> int:
        place = (bisect_right if side == "start" else bisect_left)(ends, count)
        right = min(max(place, 1), len(marks) - 1)
        (before, start), (after, end) = marks[right - 1], marks[right]
        share = (count - before) / (after - before) if after > before else 1.0
        return max(0, round((start + (end - start) * share) * 1000))

    def speaker_at(count: int) -> str | None:
        return words[max(0, bisect_right(begins, count) - 1)].speaker

    return at, speaker_at
