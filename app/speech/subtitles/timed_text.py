"""The pieces of a segment that cues are made of, each with its times and its speaker.

The times of words are used where the words spell the text of the segment, punctuation apart. Else
the time of the segment is distributed evenly over its characters.
"""

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

from app.kit.text import without_spaces
from app.speech.subtitles.line_breaks import (
    FORBIDDEN,
    SENTENCE,
    break_quality,
    display_width,
    single_line,
    split_at_breaks,
)
from app.speech.transcript import Segment, Word

Side = Literal["start", "end"]

_PAUSE_MS_PER_QUALITY = 20  # silence between two words that adds 1 to the quality of a break
_MAX_PAUSE_QUALITY = 30
_MIN_LETTERS_PER_WORD = 1.4  # with fewer, the engine's words are single characters


@dataclass(slots=True)
class TimedPiece:
    """Text that is kept together in a line; times in milliseconds.

    `columns` is the width with the space at the end, `width` the width without it. `quality` rates
    a break after the piece (`line_breaks.break_quality`). `is_timed`: the times come from words.
    """

    text: str
    start: int
    end: int
    columns: int
    width: int
    quality: int
    speaker: str | None
    is_timed: bool


def timed_pieces(segment: Segment, max_width: int) -> list[TimedPiece]:
    """Return the pieces of a segment's text in order, none wider than `max_width` columns."""
    text = single_line(segment.text)
    if not text:
        return []
    letters = _letters(text)
    spelt = _letters("".join(word.text for word in segment.words))
    words = segment.words if letters and letters == spelt else ()
    timed = words or (Word(start=segment.start, end=segment.end, text=segment.text),)
    counted = _letters if words else without_spaces
    time_at, speaker_at = _timeline(timed, counted)
    pieces: list[TimedPiece] = []
    passed = latest = 0
    for piece in split_at_breaks(text, max_width):
        start = latest = max(latest, time_at(passed, "start"))
        speaker = speaker_at(passed) or segment.speaker
        passed += len(counted(piece))
        end = latest = max(latest, time_at(passed, "end"))
        bare = piece.rstrip()
        width = display_width(bare)
        columns = width + len(piece) - len(bare)
        pieces.append(TimedPiece(piece, start, end, columns, width, SENTENCE, speaker, bool(words)))
    _rate_breaks(pieces, words)
    return pieces


def _rate_breaks(pieces: Sequence[TimedPiece], words: Sequence[Word]) -> None:
    """Set the quality of the break after each piece but the last."""
    word_ends = set(accumulate(len(_letters(word.text)) for word in words))
    if max(word_ends, default=0) <= len(words) * _MIN_LETTERS_PER_WORD:
        word_ends.clear()
    passed = 0
    for piece, following in pairwise(pieces):
        quality = break_quality(piece.text, following.text)
        if word_ends:  # in a script without spaces, the words tell where no word is divided
            passed += len(_letters(piece.text))
            if not piece.text.endswith(" "):
                quality = max(quality, 0) if passed in word_ends else min(quality, FORBIDDEN)
        if piece.is_timed:
            pause = max(0, following.start - piece.end)
            quality += min(pause // _PAUSE_MS_PER_QUALITY, _MAX_PAUSE_QUALITY)
        piece.quality = quality


def _letters(text: str) -> str:
    """Return the letters with their marks, and the digits, in lower case."""
    return "".join(c for c in text if unicodedata.category(c)[0] in "LMN").lower()


def _timeline(
    words: Sequence[Word], counted: Callable[[str], str]
) -> tuple[Callable[[int, Side], int], Callable[[int], str | None]]:
    """Return functions from a number of characters to the millisecond and to the next speaker.

    `counted` returns the characters of a text that count. Where a word ends and the next begins,
    the side chooses between the two times.
    """
    marks: list[tuple[int, float]] = []
    begins: list[int] = []
    passed = 0
    for word in words:
        begins.append(passed)
        marks.append((passed, word.start))
        passed += len(counted(word.text))
        marks.append((passed, word.end))
    counts = [count for count, _ in marks]

    def time_at(count: int, side: Side) -> int:
        index = (bisect_right if side == "start" else bisect_left)(counts, count)
        right = min(max(index, 1), len(marks) - 1)
        (before, start), (after, end) = marks[right - 1], marks[right]
        share = (count - before) / (after - before) if after > before else 1.0
        return max(0, round((start + (end - start) * share) * 1000))

    def speaker_at(count: int) -> str | None:
        return words[max(0, bisect_right(begins, count) - 1)].speaker

    return time_at, speaker_at
