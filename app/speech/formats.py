"""A transcript as other programs read it: plain text, SubRip, WebVTT, LRC.

Segments are cut into cues a viewer can read; JSON is the API's own shape and made elsewhere.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from app.speech.merge import is_unspaced, join
from app.speech.transcript import Segment, Transcript

Form = Literal["text", "srt", "vtt", "lrc"]
Side = Literal["start", "end"]

LINE_COLUMNS = 42  # what broadcasters allow; a wide character takes two
CUE_LINES = 2
CUE_MS = 7_000
LEAST_CUE_MS = 1  # WebVTT asks for an end after the start

_SENTENCE_END = frozenset(".!?…。！？")  # noqa: RUF001 - the wide ones are meant
_PAUSE = frozenset(",;:，、；：")  # noqa: RUF001
_NO_LINE_START = _SENTENCE_END | _PAUSE | frozenset(")]}%’”」』）】》")  # noqa: RUF001
_VTT_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_UNIT = re.compile(r"\S+\s*")


@dataclass(frozen=True, slots=True)
class Cue:
    """What stands on the screen for a while; times in milliseconds."""

    start: int
    end: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Unit:
    """The least text that is kept together: a word, or one character where words have no gap."""

    start: int
    end: int
    text: str
    columns: int


def render(transcript: Transcript, form: Form) -> str:
    """Return the transcript in one of the text forms."""
    return _WRITERS[form](transcript)


def cues(segments: Sequence[Segment]) -> list[Cue]:
    """Cut segments into cues of at most two lines and seven seconds, in the order of time."""
    made = [cue for segment in segments for cue in _segment_cues(segment)]
    made.sort(key=lambda cue: cue.start)
    for index, (cue, following) in enumerate(pairwise(made)):
        if cue.start < following.start < cue.end:
            made[index] = replace(cue, end=following.start)
    return made


def _segment_cues(segment: Segment) -> Iterator[Cue]:
    units = _units(segment)
    # A few words with a long estimated span are one cue that ends early, not one cue a word.
    patient = not segment.words and len(_lines(units)) <= CUE_LINES
    while units:
        cut = len(units) if patient else _cut(units)
        shown, units = units[:cut], units[cut:]
        start = shown[0].start
        end = max(start + LEAST_CUE_MS, min(shown[-1].end, start + CUE_MS))
        yield Cue(start, end, tuple(_lines(shown)))


def _units(segment: Segment) -> list[_Unit]:
    text = _clean(segment.text)
    at = _clock(segment, text)
    units = []
    passed = 0
    for piece in _pieces(text):
        bare = len(piece.rstrip())
        units.append(_Unit(at(passed, "start"), at(passed + bare, "end"), piece, _columns(piece)))
        passed += bare
    return units


def _clean(text: str) -> str:
    """Return the text on one line and without control characters."""
    spaced = " ".join(text.split())
    return "".join(c for c in spaced if unicodedata.category(c) != "Cc")


def _pieces(text: str) -> Iterator[str]:
    """Yield the units of a text; joined they are the text again."""
    for word in _UNIT.findall(text):
        start = columns = 0
        for index, character in enumerate(word):
            wide = is_unspaced(character) or (index and is_unspaced(word[index - 1]))
            breakable = wide and character not in _NO_LINE_START and not character.isspace()
            if index > start and (
                breakable or columns + _columns(character.strip()) > LINE_COLUMNS
            ):
                yield word[start:index]
                start, columns = index, 0
            columns += _columns(character)
        yield word[start:]


def _columns(text: str) -> int:
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _clock(segment: Segment, text: str) -> Callable[[int, Side], int]:
    """Return the time at which so many characters (spaces apart) have been said.

    Known at each word where the engine's words spell the text; else the segment's time is
    shared out evenly. Where a word ends and the next begins the side chooses between the two.
    """
    marks = [(0, segment.start), (len("".join(text.split())), segment.end)]
    spelt = "".join("".join(word.text.split()) for word in segment.words)
    if segment.words and spelt == "".join(text.split()):
        marks, said = [], 0
        for word in segment.words:
            marks.append((said, word.start))
            said += len("".join(word.text.split()))
            marks.append((said, word.end))
    counts = [count for count, _ in marks]

    def at(count: int, side: Side) -> int:
        place = (bisect_right if side == "start" else bisect_left)(counts, count)
        right = min(max(place, 1), len(marks) - 1)
        (before, start), (after, end) = marks[right - 1], marks[right]
        share = (count - before) / (after - before) if after > before else 1.0
        return max(0, round((start + (end - start) * share) * 1000))

    return at


def _lines(units: Sequence[_Unit]) -> list[str]:
    lines: list[str] = []
    room = 0
    for unit in units:
        if not lines or _columns(unit.text.rstrip()) > room:
            lines.append("")
            room = LINE_COLUMNS
        lines[-1] += unit.text
        room -= unit.columns
    return [line.rstrip() for line in lines]


def _cut(units: Sequence[_Unit]) -> int:
    """Return how many units the next cue takes: what fits, back to a sentence's end or a pause."""
    most = _most_that_fit(units)
    if most == len(units):
        return most
    for marks in (_SENTENCE_END, _PAUSE):
        for cut in range(most, most // 2, -1):
            if units[cut - 1].text.rstrip()[-1:] in marks:
                return cut
    return most


def _most_that_fit(units: Sequence[_Unit]) -> int:
    lines, room = 0, 0
    for index, unit in enumerate(units):
        if not lines or _columns(unit.text.rstrip()) > room:
            lines += 1
            room = LINE_COLUMNS
        room -= unit.columns
        if index and (lines > CUE_LINES or unit.end - units[0].start > CUE_MS):
            return index
    return len(units)


def _text(transcript: Transcript) -> str:
    return transcript.text


def _srt(transcript: Transcript) -> str:
    blocks = (
        f"{number}\n{_stamp(cue.start, ',')} --> {_stamp(cue.end, ',')}\n" + _srt_lines(cue)
        for number, cue in enumerate(cues(transcript.segments), start=1)
    )
    return "".join(f"{block}\n\n" for block in blocks)


def _srt_lines(cue: Cue) -> str:
    # SubRip has no escapes, and its readers take a line with this arrow for a new cue's times.
    return "\n".join(cue.lines).replace("-->", "\N{RIGHTWARDS ARROW}")


def _vtt(transcript: Transcript) -> str:
    blocks = (
        f"{_stamp(cue.start, '.')} --> {_stamp(cue.end, '.')}\n"
        + "\n".join(cue.lines).translate(_VTT_ESCAPES)
        for cue in cues(transcript.segments)
    )
    return "WEBVTT\n\n" + "".join(f"{block}\n\n" for block in blocks)


def _lrc(transcript: Transcript) -> str:
    return "".join(
        f"{_lrc_stamp(cue.start)}{_lrc_line(cue)}\n" for cue in cues(transcript.segments)
    )


def _lrc_line(cue: Cue) -> str:
    line = join(cue.lines)
    # "[00:01.00][00:02.00]la" is one line sung twice: a bracket of the text must stand apart.
    return f" {line}" if line.startswith("[") else line


def _stamp(millis: int, point: str) -> str:
    seconds, rest = divmod(millis, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{rest:03}"


def _lrc_stamp(millis: int) -> str:
    minutes, centis = divmod(millis // 10, 6000)
    return f"[{minutes:02}:{centis // 100:02}.{centis % 100:02}]"


_WRITERS: Mapping[Form, Callable[[Transcript], str]] = {
    "text": _text,
    "srt": _srt,
    "vtt": _vtt,
    "lrc": _lrc,
}
