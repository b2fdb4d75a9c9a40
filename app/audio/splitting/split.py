"""Splits audio into pieces that an engine accepts, cut in pauses while later audio is decoded.

The pieces are a chain without a gap. Pieces without speech have no PCM and are never sent.
Memory is bounded by one window.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass

from app.audio.pcm import BYTES_PER_MS
from app.audio.splitting.cuts import MIN_SPEECH_MS, Rules, inner_pause, next_cut
from app.audio.splitting.detectors import Detectors
from app.audio.splitting.speech_map import Span, SpeechMap
from app.audio.splitting.vad import Detector

LEAST_LIMIT_SECONDS = 2  # below it the pads would be longer than the pieces


@dataclass(frozen=True, slots=True)
class AudioPiece:
    """One span of the audio. `speech_ms` is its length, or 0 if it has no speech.

    A silent piece has no `pcm`.
    """

    index: int
    start_ms: int
    end_ms: int
    speech_ms: int
    pcm: bytes


async def pieces(
    blocks: AsyncIterator[bytes],
    *,
    detectors: Detectors,
    limit_seconds: float,
    cut: bool,
    min_speech_ms: int = MIN_SPEECH_MS,
    known: Sequence[tuple[int, int]] = (),
) -> AsyncGenerator[AudioPiece, None]:
    """Yield the chain of pieces from 0 to the end of the audio.

    A piece with less speech than `min_speech_ms` counts as silent. `known` are the first
    boundaries, stored by an earlier run. They are used unchanged, so that a restarted job
    continues with the pieces it has begun, even if rules or settings changed since.
    """
    if limit_seconds < LEAST_LIMIT_SECONDS:
        raise ValueError(f"pieces need at least {LEAST_LIMIT_SECONDS} s")
    window = _Window(Rules(int(limit_seconds * 1000), cut), min_speech_ms, known)
    async for block in blocks:
        window.add(block)
        while window.may_cut and (piece := await detectors.run(window.next_piece)):
            yield piece
            del piece  # while later audio comes, it is the consumer's alone
    window.end()
    while window.may_cut and (piece := await detectors.run(window.next_piece)):
        yield piece
        del piece


async def middle(pcm: bytes, detectors: Detectors) -> int | None:
    """Return the milliseconds after which a piece may be cut in two in a pause, or None."""
    speech = SpeechMap(MIN_SPEECH_MS)
    speech.add(pcm)
    speech.end()

    def find(detector: Detector) -> int | None:
        speech.detector = detector
        return inner_pause(speech, Span(0, len(pcm) // BYTES_PER_MS))

    return await detectors.run(find)


class _Window:
    """The audio that is not cut yet, and the cuts to come."""

    def __init__(self, rules: Rules, min_speech_ms: int, known: Sequence[tuple[int, int]]) -> None:
        starts, ends = [start for start, _ in known], [end for _, end in known]
        if starts != [0, *ends][: len(starts)] or any(end < start for start, end in known):
            raise ValueError("known pieces must be a chain that begins at 0")
        self._rules = rules
        self._known_ends = ends
        self._speech = SpeechMap(min_speech_ms)
        self._index = 0
        self._start_ms = 0
        self._needed_ms = 0
        self._is_all = False

    def add(self, pcm: bytes) -> None:
        self._speech.add(pcm)

    def end(self) -> None:
        self._speech.end()
        self._is_all = True

    @property
    def may_cut(self) -> bool:
        """Whether enough audio was added since the last decision for another one."""
        return self._is_all or self._speech.end_ms >= self._needed_ms

    def next_piece(self, detector: Detector) -> AudioPiece | None:
        """Return the next piece. None: more audio must be added, or none is left. Blocks."""
        self._speech.detector = detector
        available = Span(self._start_ms, self._speech.end_ms)
        end_ms = None
        if self._index < len(self._known_ends):
            self._needed_ms = self._known_ends[self._index]
            if self._is_all or self._needed_ms <= available.end:
                end_ms = self._needed_ms
        elif available.length > 0:
            end_ms, self._needed_ms = next_cut(
                self._speech, available, self._rules, is_all=self._is_all
            )
        if end_ms is None:
            return None
        span = Span(self._start_ms, end_ms)
        speaks = self._speech.has_speech(span)
        piece = AudioPiece(
            index=self._index,
            start_ms=span.start,
            end_ms=end_ms,
            speech_ms=span.length if speaks else 0,
            pcm=self._speech.pcm(span) if speaks else b"",
        )
        self._speech.drop_before(end_ms)
        self._index += 1
        self._start_ms = self._needed_ms = end_ms
        return piece
