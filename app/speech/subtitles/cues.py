"""Subtitle cues from the segments of a transcript.

A cue has at most two lines of 42 columns and is shown for at most seven seconds. Cues end where a
sentence or a clause ends. A cue that is too fast to be read is joined with its neighbour, or shown
longer into the pause after it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from app.speech.merge import separator_between
from app.speech.subtitles.line_breaks import SENTENCE, break_quality, may_break
from app.speech.subtitles.reading_speed import MAX_CUE_MS, reading_ms
from app.speech.subtitles.timed_text import TimedPiece, timed_pieces
from app.speech.transcript import Segment

Voice = tuple[str | None, int | None]  # a speaker, a channel

LINE_COLUMNS = 42  # the limit of broadcasters; a wide character takes two columns
CUE_LINES = 2
SPEAKER_MARK = "- "  # before the first words of another speaker

_FULL = 2 * LINE_COLUMNS - 8  # usual contents of two lines, as words do not fill them
_MAX_PAUSE_MS = 1_500  # silence between two words that ends a cue
_MAX_JOINED_PAUSE_MS = 500  # silence inside a cue that is joined from two
_MIN_MS = 1  # WebVTT requires an end after the start


@dataclass(frozen=True, slots=True)
class Cue:
    """Text on the screen for a time; times in milliseconds.

    `starts_speaker`: the speaker is another than before, in a transcript of several speakers.
    """

    start: int
    end: int
    lines: tuple[str, ...]
    speaker: str | None = None
    starts_speaker: bool = False


@dataclass(slots=True)
class _Draft:
    """A cue whose lines and end are not decided yet."""

    pieces: list[TimedPiece]
    channel: int | None
    start: int
    end: int

    @property
    def voice(self) -> Voice:
        return self.pieces[0].speaker, self.channel

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    def lines(self, indent: int) -> tuple[str, ...]:
        """Break a cue into two lines of about the same width, at a good break."""
        pieces, text = self.pieces, self.text
        columns = list(accumulate(piece.columns for piece in pieces))
        whole = columns[-1] - pieces[-1].columns + pieces[-1].width
        if whole <= LINE_COLUMNS - indent or len(pieces) == 1:
            return (text.strip(),)
        breaks = []
        for index, piece in enumerate(pieces[:-1]):
            upper, lower = columns[index] - piece.columns + piece.width, whole - columns[index]
            if upper <= LINE_COLUMNS - indent and lower <= LINE_COLUMNS:
                # SubRip readers may take a last line of digits for the number of the next cue.
                is_number = index == len(pieces) - 2 and pieces[-1].text.strip().isdecimal()
                quality = piece.quality - abs(upper - lower) - is_number * 4 * LINE_COLUMNS
                # Of two equal breaks, a shorter first line hides less of the picture.
                breaks.append((quality, -index))
        end = 1 - max(breaks)[1]
        upper_text = "".join(piece.text for piece in pieces[:end])
        return upper_text.strip(), text[len(upper_text) :].strip()


def make_cues(segments: Sequence[Segment], seconds: float | None = None) -> list[Cue]:
    """Return the cues of segments in the order of time; `seconds` is the length of the audio.

    Cues of one voice never overlap. Cues of two voices overlap only where both speak at once.
    """
    max_width = LINE_COLUMNS - len(SPEAKER_MARK)
    timed = [(segment, timed_pieces(segment, max_width)) for segment in segments]
    speakers = {piece.speaker for _, pieces in timed for piece in pieces} - {None}
    indent = len(SPEAKER_MARK) if len(speakers) > 1 else 0
    drafts = [
        _Draft(cut, segment.channel, cut[0].start, cut[-1].end)
        for segment, pieces in timed
        for run in _divide_at_pauses(pieces)
        for cut in _cuts(run, indent)
    ]
    drafts.sort(key=lambda draft: draft.start)
    last = max((max(draft.start + _MIN_MS, draft.end) for draft in drafts), default=0)
    if seconds is not None:
        last = max(round(seconds * 1000), _MIN_MS)
    drafts = _join_fast_cues(drafts, indent, last)
    _set_times(drafts, last)
    cues: list[Cue] = []
    for draft in drafts:
        speaker = draft.voice[0]
        before = cues[-1].speaker if cues else None
        starts = indent > 0 and speaker not in {None, before}
        cues.append(Cue(draft.start, draft.end, draft.lines(indent), speaker, starts))
    return cues


def _divide_at_pauses(pieces: Sequence[TimedPiece]) -> Iterator[list[TimedPiece]]:
    """Divide pieces where a cue has to end: at another speaker, and at a long silence."""
    run: list[TimedPiece] = []
    for piece in pieces:
        if run and (
            piece.speaker != run[-1].speaker
            or (piece.is_timed and piece.start - run[-1].end >= _MAX_PAUSE_MS)
        ):
            yield run
            run = []
        run.append(piece)
    if run:
        yield run


def _cuts(run: list[TimedPiece], indent: int) -> Iterator[list[TimedPiece]]:
    """Divide a run into the pieces of one cue each."""
    columns = [0, *accumulate(piece.columns for piece in run)]
    sentence_ends = [len(run)] * len(run)  # for each piece, the index after its sentence
    for index in range(len(run) - 2, -1, -1):
        is_last = run[index].quality >= SENTENCE
        sentence_ends[index] = index + 1 if is_last else sentence_ends[index + 1]
    start = 0
    while start < len(run):
        longest = cut = _end_of_longest(run, start, indent)
        if longest < len(run):
            # The rest of the sentence is distributed evenly, so that no word is left alone.
            end = sentence_ends[longest - 1]
            rest = columns[end] - columns[start]
            duration = run[end - 1].end - run[start].start if run[start].is_timed else 0
            count = max(-(-rest // _FULL), -(-duration // MAX_CUE_MS), 1)
            ideal = columns[start] + rest / count
            cut = max(
                range(start + 1, longest + 1),
                key=lambda end: (run[end - 1].quality - abs(ideal - columns[end]), end),
            )
        yield run[start:cut]
        start = cut


def _end_of_longest(run: list[TimedPiece], start: int, indent: int) -> int:
    """Return the index after the last piece of the longest cue from `start` on."""
    lines, used, room, total = 1, 0, LINE_COLUMNS - indent, 0
    for index in range(start, len(run)):
        piece = run[index]
        if index > start and used + piece.width > room:
            lines, used, room = lines + 1, 0, LINE_COLUMNS
            if lines > CUE_LINES:
                return index
        used += piece.columns
        total += piece.columns
        # A short text over a long time that was only distributed evenly is shown for less time.
        is_limited = piece.is_timed or total >= LINE_COLUMNS
        if index > start and is_limited and piece.end - run[start].start > MAX_CUE_MS:
            return index
    return len(run)


def _join_fast_cues(drafts: Sequence[_Draft], indent: int, last: int) -> list[_Draft]:
    """Join two neighbours where one of them is too fast and both fit into one cue."""
    joined: list[_Draft] = []
    starts = [*(draft.start for draft in drafts[1:]), last]
    was_fast = False
    for draft, following in zip(drafts, starts, strict=False):
        is_fast = _is_too_fast(draft, following)
        may_join = joined and (was_fast or is_fast)
        if may_join and (both := _join_drafts(joined[-1], draft, indent)):
            joined[-1] = both
            was_fast = _is_too_fast(both, following)
        else:
            joined.append(draft)
            was_fast = is_fast
    return joined


def _is_too_fast(draft: _Draft, following: int) -> bool:
    return following - draft.start < reading_ms(draft.text.rstrip())


def _join_drafts(first: _Draft, second: _Draft, indent: int) -> _Draft | None:
    """Return both as one cue, or None if they do not fit into one."""
    if (
        first.voice != second.voice
        or second.start - first.end > _MAX_JOINED_PAUSE_MS
        or second.end - first.start > MAX_CUE_MS
    ):
        return None
    left, right = first.pieces[-1], second.pieces[0]
    text = left.text + separator_between(left.text, right.text)
    columns = left.columns + len(text) - len(left.text)
    if may_break(text + right.text, len(text)):
        quality = break_quality(text, right.text)
        seam = [replace(left, text=text, columns=columns, quality=quality), right]
    else:
        seam = [
            replace(
                right,
                text=text + right.text,
                start=left.start,
                columns=columns + right.columns,
                width=columns + right.width,
            )
        ]
    pieces = [*first.pieces[:-1], *seam, *second.pieces[1:]]
    if _end_of_longest(pieces, 0, indent) < len(pieces):
        return None
    return _Draft(pieces, first.channel, first.start, max(first.end, second.end))


def _set_times(drafts: Sequence[_Draft], last: int) -> None:
    """Set the start and the end of each cue, inside the audio and at most seven seconds long."""
    any_voice = _NextStart(last)
    same_voice: dict[Voice, _NextStart] = defaultdict(lambda: _NextStart(last))
    for draft in reversed(drafts):
        draft.start = max(0, min(draft.start, last - _MIN_MS))
        following = any_voice.after(draft.start)
        held = min(draft.start + reading_ms(draft.text.rstrip()), following)
        latest = min(draft.start + MAX_CUE_MS, same_voice[draft.voice].after(draft.start))
        if draft.end > last:  # after the end of the audio, nothing is spoken at the same time
            latest = min(latest, following)
        draft.end = max(min(max(draft.end, held), latest), draft.start + _MIN_MS)


class _NextStart:
    """Finds the next later start, for starts that are given from the last to the first."""

    def __init__(self, last: int) -> None:
        self._start = self._later = last

    def after(self, start: int) -> int:
        if start < self._start:
            self._start, self._later = start, self._start
        return self._later
