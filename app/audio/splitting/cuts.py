"""Decides where to cut audio into parts, one cut at a time.

A decision uses at most one window of audio, no matter how much more is already decoded, so the
same audio is always cut in the same places. Times are whole milliseconds.
"""

from dataclasses import dataclass
from typing import NamedTuple

from app.audio.splitting.speech_map import Span, SpeechMap

MIN_SPEECH_MS = 250  # with less, Whisper invents words (measured)
MIN_PAUSE_MS = 100
GOOD_PAUSE_MS = 800
LONG_PAUSE_MS = 10_000  # a pause worth a piece of its own, which is not sent
EDGE_MS = 1_000  # silence at the audio's edges worth the same, beyond the pad
INNER_SHARES = (0.25, 0.75)  # where in a piece it may be cut in two
PAD_MS = 300  # of a pause that stay with the speech; the start of speech is detected late
# Where in the window a cut is looked for: late first, then almost anywhere.
LATE_SHARES = (0.6, 0.2)
FORCED_MS = 30_000  # searched for the least speech-like frame where there is no pause


@dataclass(frozen=True, slots=True)
class Rules:
    """`limit_ms` bounds a piece; without `cut` long pauses inside the speech stay in it."""

    limit_ms: int
    cut: bool


class Decision(NamedTuple):
    """`cut_ms`: where the piece ends. None: PCM beyond `needed_ms` is needed first."""

    cut_ms: int | None
    needed_ms: int = 0


def next_cut(speech: SpeechMap, known: Span, rules: Rules, *, is_all: bool) -> Decision:
    """Decide where the piece that starts at `known.start` ends.

    `known` is the PCM that was not cut yet; `is_all`: the audio ends with it.
    """
    window = known.within(Span(known.start, known.start + rules.limit_ms))
    is_full = known.end > window.end
    full_ms = known.start + rules.limit_ms
    first_loud = speech.first_loud(window, is_whole=is_full or is_all)
    if first_loud is None:
        # The pad stays for the next piece, in case speech begins right there.
        end_ms = window.end - PAD_MS if is_full else known.end if is_all else None
        return Decision(end_ms, min(speech.next_step_ms, full_ms))
    # After a cut in a pause, the rest of that pause is left out only if it is long.
    least_silence_ms = EDGE_MS + PAD_MS if window.start == 0 else LONG_PAUSE_MS - PAD_MS
    if first_loud - window.start > least_silence_ms:
        return Decision(first_loud - PAD_MS)
    if rules.cut and (pause := speech.long_pause(window, LONG_PAUSE_MS)) is not None:
        return Decision(pause + PAD_MS)
    if is_full:
        return Decision(_best_pause(speech, window, rules.limit_ms))
    if is_all:
        return Decision(_end(speech, window))
    pause_ms = speech.loud_to_ms + LONG_PAUSE_MS if rules.cut else full_ms
    return Decision(None, min(pause_ms, full_ms))


def _end(speech: SpeechMap, window: Span) -> int:
    """Return the end of the last speech if a long silence follows it, else the window's end."""
    last_loud = speech.last_loud(window, near_end_ms=EDGE_MS + PAD_MS)
    if last_loud is None or window.end - last_loud <= EDGE_MS + PAD_MS:
        return window.end
    return last_loud + PAD_MS


def _best_pause(speech: SpeechMap, window: Span, limit_ms: int) -> int:
    """Return the middle of the latest good pause, else of the longest, else a forced cut."""
    for share in LATE_SHARES:
        searched = Span(window.start + int(limit_ms * share), window.end)
        best = speech.last_pause(searched, GOOD_PAUSE_MS)
        if best is None:
            best = _longest(speech.pauses(searched))
        if best is not None:
            return (best.start + best.end) // 2
    return speech.quietest(Span(window.end - min(FORCED_MS, limit_ms // 2), window.end))


def inner_pause(speech: SpeechMap, span: Span) -> int | None:
    """Return the middle of the longest pause well inside a span; None where there is none."""
    low, high = (span.start + int(span.length * share) for share in INNER_SHARES)
    longest = _longest(speech.pauses(Span(low, high)))
    return None if longest is None else (longest.start + longest.end) // 2


def _longest(pauses: list[Span]) -> Span | None:
    longest = max(pauses, key=lambda pause: pause.length, default=None)
    return longest if longest is not None and longest.length >= MIN_PAUSE_MS else None
