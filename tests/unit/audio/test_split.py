import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.audio import split
from app.audio.cuts import MIN_SPEECH_MS, PAD_MS
from app.audio.normalise import BYTES_PER_MS
from app.audio.split import Piece, pieces
from app.audio.vad import FRAME_BYTES, FRAME_MS, Likelihoods, SpeechDetector
from tests.unit.audio.audio_samples import SPEECH

pytestmark = pytest.mark.anyio
WAV_HEAD = 44
VOICE = SPEECH.read_bytes()[WAV_HEAD:]
Known = tuple[tuple[int, int], ...]


def silence(seconds: float) -> bytes:
    return bytes(int(seconds * 1000) * BYTES_PER_MS)


async def in_blocks(pcm: bytes, size: int = 320_000) -> AsyncIterator[bytes]:
    for at in range(0, len(pcm), size):
        yield pcm[at : at + size]


async def cut_up(
    pcm: bytes, limit: float = 120, *, cut: bool = True, known: Known = (), size: int = 320_000
) -> list[Piece]:
    chain = pieces(in_blocks(pcm, size), limit_seconds=limit, cut=cut, known=known)
    return [piece async for piece in chain]


def assert_chain(chain: list[Piece], pcm: bytes, limit: float) -> None:
    assert chain[0].start_ms == 0
    assert chain[-1].end_ms == len(pcm) // BYTES_PER_MS
    assert [piece.index for piece in chain] == list(range(len(chain)))
    assert all(a.end_ms == b.start_ms for a, b in pairwise(chain))
    for piece in chain:
        assert 0 < piece.end_ms - piece.start_ms <= limit * 1000
        sound = pcm[piece.start_ms * BYTES_PER_MS : piece.end_ms * BYTES_PER_MS]
        assert piece.pcm == (sound if piece.speech_ms else b"")
        assert piece.speech_ms == 0 or piece.speech_ms >= MIN_SPEECH_MS


def spans(chain: list[Piece]) -> list[tuple[int, int, bool]]:
    return [(piece.start_ms, piece.end_ms, bool(piece.pcm)) for piece in chain]


async def test_a_short_recording_is_one_piece() -> None:
    chain = await cut_up(VOICE)
    assert spans(chain) == [(0, len(VOICE) // BYTES_PER_MS, True)]
    assert chain[0].speech_ms > 8000


async def test_nothing_at_all() -> None:
    assert await cut_up(b"") == []
    assert await cut_up(b"\0") == []


@pytest.mark.parametrize("cut", [True, False])
async def test_of_silence_nothing_is_sent(cut: bool) -> None:
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


async def test_a_piece_comes_before_later_sound_is_decoded() -> None:
    asked = 0

    async def counting() -> AsyncIterator[bytes]:
        nonlocal asked
        for _ in range(100):
            asked += 1
            yield VOICE

    first = await anext(aiter(pieces(counting(), limit_seconds=30, cut=True)))
    assert first.pcm
    assert asked <= 4


async def test_memory_is_one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0

    class Watched(split._Window):
        def add(self, pcm: bytes, likelihoods: Likelihoods) -> None:
            nonlocal most
            super().add(pcm, likelihoods)
            most = max(most, len(self._pcm) + 4 * len(self._heard.likelihoods))

    monkeypatch.setattr(split, "_Window", Watched)
    await cut_up(VOICE * 20, 30, size=160_000)
    assert most < 30_000 * BYTES_PER_MS + 160_000 + 50_000


async def test_a_model_used_before_hears_the_same() -> None:
    heard = []
    for _ in range(3):
        detector = SpeechDetector()
        heard.append(np.concatenate((await detector.hear(VOICE), await detector.end())))
    assert np.array_equal(heard[0], heard[1])
    assert np.array_equal(heard[1], heard[2])


class Scripted:
    """A detector that takes each frame's first sample for its likelihood, in per cent."""

    def __init__(self) -> None:
        self._rest = b""

    async def hear(self, pcm: bytes) -> Likelihoods:
        pcm = self._rest + pcm
        whole = len(pcm) // FRAME_BYTES * FRAME_BYTES
        self._rest = pcm[whole:]
        samples = np.frombuffer(pcm[:whole], "<i2").reshape(-1, FRAME_BYTES // 2)
        return (samples[:, 0] / 100).astype(np.float32)

    async def end(self) -> Likelihoods:
        return await self.hear(bytes(-len(self._rest) % FRAME_BYTES)) if self._rest else np.empty(0)


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
def test_whatever_is_said_the_chain_holds(
    stretches: list[tuple[int, int]],
    limit: int,
    cut: bool,
    tail: int,
    size: int,
) -> None:
    pcm = spoken(stretches)[tail:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split, "SpeechDetector", Scripted)
        chain = asyncio.run(cut_up(pcm, limit, cut=cut, size=size))
        again = asyncio.run(cut_up(pcm, limit, cut=cut, size=77_777))
    assert again == chain
    if len(pcm) >= BYTES_PER_MS:
        assert_chain(chain, pcm, limit)
    for piece in chain:
        if not piece.pcm:
            assert heard_in(pcm, piece) < MIN_SPEECH_MS + 2 * FRAME_MS


def heard_in(pcm: bytes, piece: Piece) -> int:
    """Count the milliseconds of speech that the piece leaves out."""
    starts = range(piece.start_ms // FRAME_MS, -(-piece.end_ms // FRAME_MS))
    return sum(FRAME_MS for n in starts if pcm[n * FRAME_BYTES : n * FRAME_BYTES + 1] >= b"\x32")
