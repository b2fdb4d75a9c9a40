"""A recording in pieces that an engine takes, cut in pauses while later sound is still decoded.

The pieces are a chain without a gap. Those in which nobody speaks have no sound attached: they
are never sent. Memory is bounded by one window.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from app.audio.cuts import MIN_SPEECH_MS, Rules, Span, SpeechFrames, inner_pause, next_cut
from app.audio.normalise import BYTES_PER_MS
from app.audio.vad import FRAME_MS, SpeechDetector

LEAST_LIMIT_SECONDS = 2  # below it the pads would be longer than the pieces


@dataclass(frozen=True, slots=True)
class Piece:
    """One stretch. A silent one has `speech_ms` 0 and no `pcm`."""

    index: int
    start_ms: int
    end_ms: int
    speech_ms: int
    pcm: bytes


async def pieces(
    blocks: AsyncIterator[bytes],
    *,
    limit_seconds: float,
    cut: bool,
    min_speech_ms: int = MIN_SPEECH_MS,
    known: Sequence[tuple[int, int]] = (),
) -> AsyncGenerator[Piece, None]:
    """Yield the chain of pieces from 0 to the end of the sound.

    A piece with less speech than `min_speech_ms` counts as silent.
    `known` are the first boundaries as an earlier run stored them: they are used as they are,
    so that a restarted job goes on with the pieces it has begun, whatever changed since.
    """
    if limit_seconds < LEAST_LIMIT_SECONDS:
        raise ValueError(f"pieces need at least {LEAST_LIMIT_SECONDS} s")
    window = _Window(Rules(int(limit_seconds * 1000), cut), min_speech_ms, known)
    detector = SpeechDetector()
    async for block in blocks:
        window.add(block, await detector.hear(block))
        for piece in window.cut():
            yield piece
            del piece  # while later sound comes, it is the consumer's alone
    window.add(b"", await detector.end())
    for piece in window.cut(is_all=True):
        yield piece


async def middle(pcm: bytes) -> int | None:
    """Return after how many milliseconds a piece may be cut in two in a pause; None: nowhere."""
    detector = SpeechDetector()
    likelihoods = np.concatenate((await detector.hear(pcm), await detector.end()))
    return inner_pause(SpeechFrames(0, likelihoods), Span(0, len(pcm) // BYTES_PER_MS))


class _Window:
    """The sound that was heard and not yet cut off, and the cuts to come."""

    def __init__(self, rules: Rules, min_speech_ms: int, known: Sequence[tuple[int, int]]) -> None:
        starts, ends = [start for start, _ in known], [end for _, end in known]
        if starts != [0, *ends][: len(starts)] or any(end < start for start, end in known):
            raise ValueError("known pieces must be a chain that begins at 0")
        self._rules = rules
        self._least_speech_ms = min_speech_ms
        self._known_ends = ends
        self._index = 0
        self._start_ms = 0
        self._pcm = bytearray()
        self._heard = SpeechFrames(0, np.empty(0, np.float32))

    def add(self, pcm: bytes, likelihoods: "np.typing.NDArray[np.float32]") -> None:
        self._pcm += pcm
        together = np.concatenate((self._heard.likelihoods, likelihoods))
        self._heard = SpeechFrames(self._heard.first, together)

    def cut(self, *, is_all: bool = False) -> Iterator[Piece]:
        while (end_ms := self._next_end(is_all=is_all)) is not None:
            yield self._take(end_ms)

    def _next_end(self, *, is_all: bool) -> int | None:
        available = Span(self._start_ms, self._available_ms(is_all=is_all))
        if self._index < len(self._known_ends):
            stored = self._known_ends[self._index]
            return stored if is_all or stored <= available.end else None
        if available.length <= 0:
            return None
        return next_cut(self._heard, available, self._rules, is_all=is_all)

    def _available_ms(self, *, is_all: bool) -> int:
        """Return up to where sound is here and, while more comes, was also listened to."""
        decoded = self._start_ms + len(self._pcm) // BYTES_PER_MS
        listened = (self._heard.first + len(self._heard.likelihoods)) * FRAME_MS
        return decoded if is_all else min(decoded, listened)

    def _take(self, end_ms: int) -> Piece:
        span = Span(self._start_ms, end_ms)
        size = span.length * BYTES_PER_MS
        speech_ms = self._heard.speech_ms(span)
        speaks = speech_ms >= self._least_speech_ms
        piece = Piece(
            index=self._index,
            start_ms=span.start,
            end_ms=end_ms,
            speech_ms=speech_ms if speaks else 0,
            pcm=bytes(memoryview(self._pcm)[:size]) if speaks else b"",
        )
        del self._pcm[:size]
        self._forget(end_ms)
        self._index += 1
        self._start_ms = end_ms
        return piece

    def _forget(self, end_ms: int) -> None:
        """Drop the frames that end before the next piece starts."""
        frames = min(max(0, end_ms // FRAME_MS - self._heard.first), len(self._heard.likelihoods))
        self._heard = SpeechFrames(
            self._heard.first + frames, self._heard.likelihoods[frames:].copy()
        )
