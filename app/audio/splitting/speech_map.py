"""Finds speech in a span of PCM, and analyses as few frames as each query needs.

Silero takes most of the CPU time of an audio, so every query analyses only frames that can decide
it. The results depend on the audio alone, not on the sizes of the blocks in which it arrives.
Times are milliseconds, and frames are counted, from the start of the audio.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.audio.pcm import BYTES_PER_MS
from app.audio.splitting.vad import (
    FRAME_BYTES,
    FRAME_MS,
    FRAME_SAMPLES,
    Detector,
    Likelihoods,
    StopRule,
)

SPEECH = 0.5  # likelihood below which a frame is a good place for a cut
QUIET = 0.35  # likelihood below which a frame may be left out
LEAD_FRAMES = 16  # analysed before the first frame that counts: a new model is less exact
SHORT_LEAD_FRAMES = 8  # is enough where one loud frame of many is looked for
STEP_FRAMES = 128  # 4 s, analysed at a time in search of the first speech
SHORT_STEP_FRAMES, LONG_STEP_FRAMES = 64, 256


class Span(NamedTuple):
    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start

    def within(self, other: "Span") -> "Span":
        return Span(max(self.start, other.start), min(self.end, other.end))


class SpeechMap:
    """PCM in memory from a moving start on, and the likelihood of each analysed frame.

    A frame whose likelihood is at least QUIET is loud: it must never be left out. `detector` must
    be set before a query. The queries block, and are meant for a thread.
    """

    detector: Detector

    def __init__(self, min_speech_ms: int) -> None:
        """Count a span as speech if it has at least `min_speech_ms` of loud frames."""
        self._min_speech_ms = min_speech_ms
        self._least_speech_frames = -(-min_speech_ms // FRAME_MS)
        self._pcm = bytearray()
        self._pcm_frame = 0  # the frame that the PCM begins with: some before the start are kept
        self._first = 0  # the frame that the likelihoods begin with
        self._likelihoods: Likelihoods = np.empty(0, np.float32)  # NaN: not analysed
        self._is_whole = False
        self._first_loud: int | None = None
        self._searched_to = 0
        self._loud_to = 0

    def add(self, pcm: bytes) -> None:
        self._pcm += pcm
        self._grow()

    def end(self) -> None:
        """Mark the added PCM as complete. Its last frame may be incomplete."""
        self._is_whole = True
        self._grow()

    @property
    def end_ms(self) -> int:
        """The end of the PCM, in whole frames until the end of the audio is known."""
        size = len(self._pcm) if self._is_whole else len(self._pcm) // FRAME_BYTES * FRAME_BYTES
        return self._pcm_frame * FRAME_MS + size // BYTES_PER_MS

    def pcm(self, span: Span) -> bytes:
        start, end = (
            (at - self._pcm_frame * FRAME_MS) * BYTES_PER_MS for at in (span.start, span.end)
        )
        with memoryview(self._pcm) as whole:
            return bytes(whole[start:end])

    def drop_before(self, ms: int) -> None:
        """Drop everything before `ms`, where the next search begins."""
        frame = ms // FRAME_MS
        kept = max(self._pcm_frame, frame - LEAD_FRAMES)
        del self._pcm[: (kept - self._pcm_frame) * FRAME_BYTES]
        self._pcm_frame = kept
        # The likelihoods are dropped, too: a run that begins here must find the same cuts.
        self._likelihoods = np.empty(0, np.float32)
        self._first = self._searched_to = self._loud_to = frame
        self._first_loud = None
        self._grow()

    def first_loud(self, span: Span, *, is_whole: bool) -> int | None:
        """Return where the first loud frame of the span starts.

        None: there is none, or it was not found yet. Without `is_whole` the span will grow, and
        only whole steps are analysed. Use the same start in all calls until it is dropped.
        """
        low, high = self._frames(span)
        at = max(low, self._searched_to)
        while self._first_loud is None and at < high:
            last = min(at + STEP_FRAMES, high)
            if last - at < STEP_FRAMES and not is_whole:
                break
            # It goes on until there is speech enough: that is the next question.
            self._listen(at, last, is_enough=_Enough(self._least_speech_frames))
            loud = self._loud(at, last)
            if len(loud):
                self._first_loud = int(loud[0])
                self._loud_to = self._first_loud + 1
            self._searched_to = at = last
        return None if self._first_loud is None else max(span.start, self._first_loud * FRAME_MS)

    @property
    def next_step_ms(self) -> int:
        """The end that the PCM must reach before `first_loud` can analyse another step."""
        return (self._searched_to + STEP_FRAMES) * FRAME_MS

    def long_pause(self, span: Span, least_ms: int) -> int | None:
        """Return the start of the first pause of at least `least_ms` after the first loud frame.

        One loud frame in every stretch of that length proves that there is no such pause. The
        search begins at the end of the stretch, so most frames in between are not analysed.
        """
        while True:
            start = self._loud_to
            at = start + -(-least_ms // FRAME_MS)
            if at * FRAME_MS > span.end:
                return None
            while self._loud_to == start and at > start:
                low = max(start, at - SHORT_STEP_FRAMES)
                # A pause that is found ends here, so its edge is analysed with more care.
                lead = LEAD_FRAMES if low == start else SHORT_LEAD_FRAMES
                self._listen(low, at, is_enough=_Enough(0), most_lead=lead)
                loud = self._loud(low, at)
                if len(loud):
                    self._loud_to = int(loud[-1]) + 1
                at = low
            if self._loud_to == start:
                return max(span.start, start * FRAME_MS)

    @property
    def loud_to_ms(self) -> int:
        """The end of the last loud frame that `long_pause` has found."""
        return self._loud_to * FRAME_MS

    def last_loud(self, span: Span, *, near_end_ms: int) -> int | None:
        """Return the end of the last loud frame of the span, if there is one.

        If that is at most `near_end_ms` before the span's end, it may be an earlier such frame.
        """
        low, at = self._frames(span)
        start = -(-(span.end - near_end_ms) // FRAME_MS) - 1
        is_enough: _Enough | None = _Enough(0)
        while at > low:
            start = max(low, start)
            self._listen(start, at, is_enough=is_enough)
            loud = self._loud(start, at)
            if len(loud):
                return min(span.end, (int(loud[-1]) + 1) * FRAME_MS)
            at, start, is_enough = start, start - SHORT_STEP_FRAMES, None
        return None

    def has_speech(self, span: Span) -> bool:
        """Return whether the span has enough speech. If not, all of its frames were analysed."""
        low, high = self._frames(span)
        for at in range(low, high, STEP_FRAMES):
            end = min(high, at + STEP_FRAMES)
            # Again where it ended early without enough: it also passes frames that were known.
            while np.isnan(self._known(at, end)).any():
                missing_ms = self._min_speech_ms - self._known_ms(span, self._likelihoods >= QUIET)
                if missing_ms <= 0:
                    return True
                self._listen(at, end, is_enough=_Enough(-(-missing_ms // FRAME_MS)))
        return self._known_ms(span, self._likelihoods >= QUIET) >= self._min_speech_ms

    def pauses(self, span: Span) -> list[Span]:
        """Return the stretches without speech, which are good places for a cut."""
        low, high = self._frames(span)
        self._listen(low, high)
        return [run.within(span) for run in _stretches(self._known(low, high) < SPEECH, low)]

    def last_pause(self, span: Span, least_ms: int) -> Span | None:
        """Return the last pause of at least `least_ms`, searched from the end of the span."""
        low, high = self._frames(span)
        at = high
        while at > low:
            start = max(low, at - LONG_STEP_FRAMES)
            self._listen(start, at)
            pauses = [
                run.within(span) for run in _stretches(self._known(start, high) < SPEECH, start)
            ]
            # One that begins with the step may begin before it.
            is_open = start > low and pauses[:1] and pauses[0].start == start * FRAME_MS
            good = [pause for pause in pauses[int(bool(is_open)) :] if pause.length >= least_ms]
            if good:
                return good[-1]
            at = start
        return None

    def quietest(self, span: Span) -> int:
        """Return the start of the least speech-like frame that begins within the span."""
        low, high = -(-span.start // FRAME_MS), -(-span.end // FRAME_MS)
        self._listen(low, high)
        return (low + int(np.argmin(self._known(low, high)))) * FRAME_MS

    def _listen(
        self,
        low: int,
        high: int,
        *,
        is_enough: "_Enough | None" = None,
        most_lead: int = LEAD_FRAMES,
    ) -> None:
        """Analyse the frames without a likelihood, and those between them.

        The analysis ends early if `is_enough` returns true.
        """
        unknown = low + np.flatnonzero(np.isnan(self._known(low, high)))
        if not len(unknown):
            return
        low, high = int(unknown[0]), int(unknown[-1]) + 1
        lead = min(most_lead, low - self._pcm_frame)
        stop = None if is_enough is None else is_enough.behind(lead)
        start, end = ((at - self._pcm_frame) * FRAME_BYTES for at in (low - lead, high))
        pcm = bytes(self._pcm[start:end]).ljust(end - start, b"\0")
        samples = np.frombuffer(pcm, "<i2").reshape(-1, FRAME_SAMPLES)
        likelihoods = self.detector.listen(samples, stop)[lead:]
        at = low - self._first
        self._likelihoods[at : at + len(likelihoods)] = likelihoods

    def _grow(self) -> None:
        """Extend the likelihoods to all frames that have PCM."""
        size = len(self._pcm) + (FRAME_BYTES - 1 if self._is_whole else 0)
        count = self._pcm_frame + size // FRAME_BYTES - self._first
        new = np.full(max(0, count - len(self._likelihoods)), np.nan, np.float32)
        self._likelihoods = np.concatenate((self._likelihoods, new))

    def _frames(self, span: Span) -> tuple[int, int]:
        """Return the range of a span's existing frames: the first, and the one after the last."""
        end = self._first + len(self._likelihoods)
        return max(self._first, span.start // FRAME_MS), min(end, -(-span.end // FRAME_MS))

    def _known(self, low: int, high: int) -> Likelihoods:
        return self._likelihoods[low - self._first : high - self._first]

    def _loud(self, low: int, high: int) -> npt.NDArray[np.int64]:
        return low + np.flatnonzero(self._known(low, high) >= QUIET)

    def _known_ms(self, span: Span, claims: npt.NDArray[np.bool_]) -> int:
        """Return the milliseconds of the span for which a claim about all likelihoods holds."""
        low, high = self._frames(span)
        claimed = claims[low - self._first : high - self._first]
        return sum(run.within(span).length for run in _stretches(claimed, low))


class _Enough:
    """Decides when an analysis can end: after so many loud frames, and at least one."""

    def __init__(self, loud_frames: int) -> None:
        self._missing = max(1, loud_frames)

    def behind(self, lead: int) -> StopRule:
        """Return the rule for a detector that gets `lead` frames before the frames that count."""

        def stop(number: int, likelihood: float) -> bool:
            self._missing -= number >= lead and likelihood >= QUIET
            return self._missing <= 0

        return stop


def _stretches(claims: npt.NDArray[np.bool_], first: int) -> list[Span]:
    """Return the stretches of consecutive frames for which a claim holds."""
    edges = np.diff(claims.astype(np.int8), prepend=0, append=0)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [
        Span((first + int(a)) * FRAME_MS, (first + int(b)) * FRAME_MS)
        for a, b in zip(starts, ends, strict=True)
    ]
