"""A transcript's segments as cues that a viewer can read.

At most two lines of 42 columns and seven seconds, cut where a sentence or a clause ends; a cue
that is too fast to be read is joined with its neighbour or held into the pause behind it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from app.speech.merge import glue
from app.speech.subtitles.line_breaks import SENTENCE, ease, may_break
from app.speech.subtitles.reading_speed import CUE_MS, reading_ms
from app.speech.subtitles.timed_text import Piece, spoken
from app.speech.transcript import Segment

Voice = tuple[str | None, int | None]  # a speaker, a channel

LINE_COLUMNS = 42  # what broadcasters allow; a wide character takes two
CUE_LINES = 2
TURN = "- "  # before the first words of another speaker; all first lines leave room for it

_FULL = 2 * LINE_COLUMNS - 8  # what two lines hold on the average: words do not fill them
_PAUSE_MS = 1_500  # of silence between two words, over which no cue stands
_JOINED_PAUSE_MS = 500  # of silence that a cue made of two may stand over
_LEAST_MS = 1  # WebVTT asks for an end after the start


@dataclass(frozen=True, slots=True)
class Cue:
    """What stands on the screen for a while; times in milliseconds.

    `opens_turn`: the first of another speaker, where there are several.
    """

    start: int
    end: int
    lines: tuple[str, ...]
    speaker: str | None = None
    opens_turn: bool = False


@dataclass(slots=True)
class _Draft:
    """A cue before its lines and its end are known."""

    pieces: list[Piece]
    channel: int | None
    start: int
    end: int

    @property
    def voice(self) -> Voice:
        return self.pieces[0].speaker, self.channel

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


def cues(segments: Sequence[Segment], seconds: float | None = None) -> list[Cue]:
    """Cut segments into cues, in the order of time; `seconds` is the recording's length.

    Cues of one voice never overlap; those of two only where both spoke at once.
    """
    spoken_by = [(segment, spoken(segment, LINE_COLUMNS - len(TURN))) for segment in segments]
    speakers = {piece.speaker for _, found in spoken_by for piece in found} - {None}
    indent = len(TURN) if len(speakers) > 1 else 0
    drafts = [
        _Draft(cut, segment.channel, cut[0].start, cut[-1].end)
        for segment, found in spoken_by
        for run in _runs(found)
        for cut in _cuts(run, indent)
    ]
    drafts.sort(key=lambda draft: draft.start)
    last = _last_moment(drafts, seconds)
    drafts = _joined(drafts, indent, last)
    _time(drafts, last)
    return list(_finished(drafts, indent))


def _runs(found: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Part what never shares a cue: two speakers, and words with a long silence between them."""
    run: list[Piece] = []
    for piece in found:
        if run and (
            piece.speaker != run[-1].speaker
            or (piece.is_timed and piece.start - run[-1].end >= _PAUSE_MS)
        ):
            yield run
            run = []
        run.append(piece)
    if run:
        yield run


def _cuts(run: list[Piece], indent: int) -> Iterator[list[Piece]]:
    """Cut a run into what one cue each holds."""
    columns = [0, *accumulate(piece.columns for piece in run)]
    sentence_ends = _sentence_ends(run)
    at = 0
    while at < len(run):
        most = _most_that_fit(run, at, indent)
        cut = most
        if most < len(run):
            # What is left of the sentence is shared out, or its last word would stand alone.
            end = sentence_ends[most - 1]
            rest = columns[end] - columns[at]
            ideal = columns[at] + rest / _cues_for(rest, run[at:end])
            cut = max(
                range(at + 1, most + 1),
                key=lambda end: (run[end - 1].ease - abs(ideal - columns[end]), end),
            )
        yield run[at:cut]
        at = cut


def _cues_for(columns: int, pieces: Sequence[Piece]) -> int:
    """Return how many cues so much text takes, by its width or by its time."""
    lasts = pieces[-1].end - pieces[0].start if pieces[0].is_timed else 0
    return max(-(-columns // _FULL), -(-lasts // CUE_MS), 1)


def _sentence_ends(run: list[Piece]) -> list[int]:
    """Return for each piece where its sentence ends, as the index behind it."""
    ends = [len(run)] * len(run)
    for index in range(len(run) - 2, -1, -1):
        ends[index] = index + 1 if run[index].ease >= SENTENCE else ends[index + 1]
    return ends


def _most_that_fit(run: list[Piece], at: int, indent: int) -> int:
    """Return the index behind the last piece that a cue from `at` on can hold."""
    lines, used, room, total = 1, 0, LINE_COLUMNS - indent, 0
    for index in range(at, len(run)):
        piece = run[index]
        if index > at and used + piece.width > room:
            lines, used, room = lines + 1, 0, LINE_COLUMNS
            if lines > CUE_LINES:
                return index
        used += piece.columns
        total += piece.columns
        # Few words over a long time that was only shared out end early instead.
        is_due = piece.is_timed or total >= LINE_COLUMNS
        if index > at and is_due and piece.end - run[at].start > CUE_MS:
            return index
    return len(run)


def _last_moment(drafts: Sequence[_Draft], seconds: float | None) -> int:
    ends = max((max(draft.start + _LEAST_MS, draft.end) for draft in drafts), default=0)
    return ends if seconds is None else max(round(seconds * 1000), _LEAST_MS)


def _joined(drafts: Sequence[_Draft], indent: int, last: int) -> list[_Draft]:
    """Make one cue of two neighbours where one is too fast and both fit."""
    made: list[_Draft] = []
    starts = [*(draft.start for draft in drafts[1:]), last]
    was_hurried = False
    for draft, following in zip(drafts, starts, strict=False):
        is_hurried = _is_hurried(draft, following)
        if made and (was_hurried or is_hurried) and _may_join(made[-1], draft, indent):
            made[-1] = _join(made[-1], draft)
            was_hurried = _is_hurried(made[-1], following)
        else:
            made.append(draft)
            was_hurried = is_hurried
    return made


def _is_hurried(draft: _Draft, following: int) -> bool:
    return following - draft.start < reading_ms(draft.text.rstrip())


def _may_join(first: _Draft, second: _Draft, indent: int) -> bool:
    if first.voice != second.voice or second.start - first.end > _JOINED_PAUSE_MS:
        return False
    both = _join(first, second).pieces
    is_short = second.end - first.start <= CUE_MS
    return is_short and _most_that_fit(both, 0, indent) == len(both)


def _join(first: _Draft, second: _Draft) -> _Draft:
    left, right = first.pieces[-1], second.pieces[0]
    text = left.text + glue(left.text, right.text)
    space = len(text) - len(left.text)
    if may_break(text + right.text, len(text)):
        worth = ease(text, right.text)
        seam = [replace(left, text=text, columns=left.columns + space, ease=worth), right]
    else:
        before = left.columns + space
        seam = [
            replace(
                right,
                text=text + right.text,
                start=left.start,
                columns=before + right.columns,
                width=before + right.width,
            )
        ]
    pieces = [*first.pieces[:-1], *seam, *second.pieces[1:]]
    return _Draft(pieces, first.channel, first.start, max(first.end, second.end))


def _time(drafts: Sequence[_Draft], last: int) -> None:
    """Settle when each cue comes and goes, inside the recording and its seven seconds."""
    anyones = _Later(last)
    own: dict[Voice, _Later] = defaultdict(lambda: _Later(last))
    for draft in reversed(drafts):
        draft.start = max(0, min(draft.start, last - _LEAST_MS))
        following = anyones.than(draft.start)
        held = min(draft.start + reading_ms(draft.text.rstrip()), following)
        latest = min(draft.start + CUE_MS, own[draft.voice].than(draft.start))
        if draft.end > last:  # behind the recording nobody speaks at the same time as others
            latest = min(latest, following)
        draft.end = max(min(max(draft.end, held), latest), draft.start + _LEAST_MS)


class _Later:
    """Of starts that are told from the last to the first: the next one that is really later."""

    def __init__(self, last: int) -> None:
        self._start = self._later = last

    def than(self, start: int) -> int:
        if start < self._start:
            self._start, self._later = start, self._start
        return self._later


def _finished(drafts: Sequence[_Draft], indent: int) -> Iterator[Cue]:
    before: str | None = None
    for index, draft in enumerate(drafts):
        speaker = draft.voice[0]
        opens = indent > 0 and speaker is not None and (index == 0 or speaker != before)
        before = speaker
        yield Cue(draft.start, draft.end, _lines(draft.pieces, indent), speaker, opens)


def _lines(pieces: Sequence[Piece], indent: int) -> tuple[str, ...]:
    """Break a cue in two where the text parts well and both lines are about as long."""
    text = "".join(piece.text for piece in pieces)
    columns = list(accumulate(piece.columns for piece in pieces))
    whole = columns[-1] - pieces[-1].columns + pieces[-1].width
    if whole <= LINE_COLUMNS - indent or len(pieces) == 1:
        return (text.strip(),)
    ways = []
    for index, piece in enumerate(pieces[:-1]):
        upper, lower = columns[index] - piece.columns + piece.width, whole - columns[index]
        if upper <= LINE_COLUMNS - indent and lower <= LINE_COLUMNS:
            # SubRip's readers may take a last line of digits for the number of a next cue.
            is_number = index == len(pieces) - 2 and pieces[-1].text.strip().isdecimal()
            worth = piece.ease - abs(upper - lower) - is_number * 4 * LINE_COLUMNS
            # Of two equal ways, the shorter first line hides less of the picture.
            ways.append((worth, -index))
    at = 1 - max(ways)[1]
    upper_text = "".join(piece.text for piece in pieces[:at])
    return upper_text.strip(), text[len(upper_text) :].strip()
