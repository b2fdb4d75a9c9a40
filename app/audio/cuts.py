"""Where to cut a recording: pure decisions over speech likelihoods, one cut at a time.

A decision looks at most one window ahead and never at how much more happens to be decoded, so
the same recording is always cut in the same places. Times are whole milliseconds.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from app.audio.vad import FRAME_MS, Likelihoods

SPEECH = 0.5  # likelihood from which a frame counts as speech
QUIET = 0.35  # below it a frame may be left out; between the two it is sent but counts as nothing
MIN_SPEECH_MS = 250  # with less, Whisper invents words rather than hears some (measured)
MIN_PAUSE_MS = 100
GOOD_PAUSE_MS = 800
LONG_PAUSE_MS = 10_000  # a pause worth a piece of its own, which is not sent
EDGE_MS = 1_000  # silence at the recording's edges worth the same, beyond the pad
INNER_SHARES = (0.25, 0.75)  # where in a piece it may be cut in two
PAD_MS = 300  # of a pause that stays with the speech beside it; onsets are heard late
LATE_SHARES = (
    0.6,
    0.2,
)  # where in the window a cut is looked for: late first, then almost anywhere
FORCED_MS = 30_000  # the stretch searched for the least speech-like frame where nobody pauses


class Span(NamedTuple):
    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start

    def within(self, other: "Span") -> "Span":
        return Span(max(self.start, other.start), min(self.end, other.end))


@dataclass(frozen=True, slots=True)
class SpeechFrames:
    """Likelihoods of the frames from `first` (its number from the recording's start) on."""

    first: int
    likelihoods: Likelihoods

    def speech_ms(self, span: Span) -> int:
        return sum(run.within(span).length for run in self._runs(span, self.likelihoods >= SPEECH))

    def pauses(self, span: Span) -> list[Span]:
        """Return where nobody speaks: good places for a cut."""
        return self._runs(span, self.likelihoods < SPEECH)

    def loud(self, span: Span) -> list[Span]:
        """Return where somebody might be speaking: never to be left out."""
        return self._runs(span, self.likelihoods >= QUIET)

    def quietest(self, span: Span) -> int:
        """Return the start of the least speech-like frame that begins within the span."""
        low, high = -(-span.start // FRAME_MS), -(-span.end // FRAME_MS)
        frames = self.likelihoods[low - self.first : high - self.first]
        return (low + int(np.argmin(frames))) * FRAME_MS

    def _runs(self, span: Span, claims: "np.typing.NDArray[np.bool_]") -> list[Span]:
        """Return the stretches within the span whose frames the claim holds for."""
        low = max(0, span.start // FRAME_MS - self.first)
        high = max(low, -(-span.end // FRAME_MS) - self.first)
        edges = np.diff(claims[low:high].astype(np.int8), prepend=0, append=0)
        starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        offset = self.first + low
        runs = (
            Span((offset + int(a)) * FRAME_MS, (offset + int(b)) * FRAME_MS).within(span)
            for a, b in zip(starts, ends, strict=True)
        )
        return [run for run in runs if run.length > 0]


@dataclass(frozen=True, slots=True)
class Rules:
    """`limit_ms` bounds a piece; without `cut` long pauses inside the speech stay in it."""

    limit_ms: int
    cut: bool


def next_cut(heard: SpeechFrames, known: Span, rules: Rules, *, is_all: bool) -> int | None:
    """Return where the piece that starts at `known.start` ends; None where more must be heard.

    `known` is what was heard and not yet cut; `is_all` says that the recording ends with it.
    """
    window = known.within(Span(known.start, known.start + rules.limit_ms))
    is_full = known.end > window.end
    loud = heard.loud(window)
    if not loud:
        # The pad stays for the next piece, in case somebody begins to speak right here.
        return window.end - PAD_MS if is_full else _end(known, is_all=is_all)
    if loud[0].start - window.start > _worth_leaving_out(window):
        return loud[0].start - PAD_MS
    if (pause := _long_pause(loud, window, rules)) is not None:
        return pause + PAD_MS
    if is_full:
        return _best_pause(heard, window, rules.limit_ms)
    if is_all and window.end - loud[-1].end > EDGE_MS + PAD_MS:
        return loud[-1].end + PAD_MS
    return _end(known, is_all=is_all)


def _end(known: Span, *, is_all: bool) -> int | None:
    return known.end if is_all else None


def _worth_leaving_out(window: Span) -> int:
    """Behind a cut in a pause, the rest of that pause is only left out where it is long."""
    return EDGE_MS + PAD_MS if window.start == 0 else LONG_PAUSE_MS - PAD_MS


def _long_pause(loud: list[Span], window: Span, rules: Rules) -> int | None:
    """Return the start of the first long pause behind speech."""
    if not rules.cut:
        return None
    ahead = [*loud, Span(window.end, window.end)]
    return next((a.end for a, b in pairwise(ahead) if b.start - a.end >= LONG_PAUSE_MS), None)


def _best_pause(heard: SpeechFrames, window: Span, limit_ms: int) -> int:
    """Return the middle of the latest good pause, else of the longest, else a forced cut."""
    for share in LATE_SHARES:
        searched = Span(window.start + int(limit_ms * share), window.end)
        pauses = [p for p in heard.pauses(searched) if p.length >= MIN_PAUSE_MS]
        if pauses:
            good = [p for p in pauses if p.length >= GOOD_PAUSE_MS]
            best = good[-1] if good else max(pauses, key=lambda p: p.length)
            return (best.start + best.end) // 2
    return heard.quietest(Span(window.end - min(FORCED_MS, limit_ms // 2), window.end))


def inner_pause(heard: SpeechFrames, span: Span) -> int | None:
    """Return the middle of the longest pause well inside a span; None where nobody pauses there."""
    low, high = (span.start + int(span.length * share) for share in INNER_SHARES)
    pauses = [one for one in heard.pauses(Span(low, high)) if one.length >= MIN_PAUSE_MS]
    if not pauses:
        return None
    longest = max(pauses, key=lambda one: one.length)
    return (longest.start + longest.end) // 2
