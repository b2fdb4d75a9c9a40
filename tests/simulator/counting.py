"""Counting audio: every second contains a number, to detect lost and repeated seconds.

Tones above 3.6 kHz, four at a time, encode the number (three digits) and a clock of three values
(to distinguish equal neighbours). Below them is a voice, for detectors of speech. All tones have a
whole number of cycles in a frame of 20 ms, two apart, so with a Hann window they never interfere,
whatever the cut, and the voice, forty times as loud, hardly reaches them. The voice may pause while
the tones continue: a cut in a pause loses no number. FLAC, MP3 and AAC preserve the numbers; Opus
at the rates of speech does not.
"""

import io
import wave
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
RATE = 16_000
FRAME = 320
NUMBERS = 1000
CLOCK = 3
GROUPS = (10, 10, 10, CLOCK)
LOWEST_HERTZ, STEP_HERTZ = 3700, 100
TONE = 0.012  # of full scale: far below the voice, far above 16 bit
HEARD = 0.25  # of a tone's height: less is no tone
NOISE = 0.01  # of a tone's full height
CLEAR = 0.8  # one tone's part of its group in a frame that holds one number alone
WHOLE_MS = 990
SECOND_MS = 1000
VOICE_HERTZ = 3300
VOICE = Path(__file__).parents[1] / "media" / "en_clean_10s.wav"
VOICE_FROM, VOICE_SECONDS = 1, 8


@dataclass(frozen=True)
class Second:
    """A number, its duration, and its position in the recording."""

    number: int
    milliseconds: int = SECOND_MS
    at_ms: int = field(default=0, compare=False)

    @property
    def is_whole(self) -> bool:
        return self.milliseconds == SECOND_MS

    def __str__(self) -> str:
        return str(self.number) if self.is_whole else f"{self.number}/{self.milliseconds}"


def encode(numbers: Iterable[int], *, pause_every: int = 0, pause_seconds: float = 0.6) -> bytes:
    """Return a 16 kHz mono WAV with one second per number. Each n-th second begins with a pause."""
    numbers = list(numbers)
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        for at, number in enumerate(numbers):
            second = _chord(number % 10, number // 10 % 10, number // 100, at % CLOCK)
            voice = _voice(at).copy()
            if pause_every and at % pause_every == pause_every - 1:
                voice[: int(pause_seconds * RATE)] = 0
            file.writeframesraw(((second + voice) * 32767).astype("<i2").tobytes())
    return out.getvalue()


def decode(pcm: bytes) -> list[Second]:
    """Return the numbers in 16 kHz mono PCM, in order, with the duration of incomplete seconds."""
    heights = _heights(pcm)
    if not len(heights):
        return []
    groups = np.split(heights, np.cumsum(GROUPS)[:-1], axis=1)
    clear = np.all([group.max(1) > CLEAR * group.sum(1) for group in groups], axis=0)
    clear &= np.all([group.max(1) > HEARD * TONE for group in groups], axis=0)
    codes = np.stack([group.argmax(1) for group in groups], axis=1)
    runs = _runs(codes, clear)
    lengths = [_length(groups, runs, at) for at in range(len(runs))]
    return [
        Second(run.number, _whole(length), run.start * FRAME * 1000 // RATE)
        for run, length in zip(runs, lengths, strict=True)
    ]


def _whole(length: int) -> int:
    return SECOND_MS if WHOLE_MS <= length <= 2 * SECOND_MS - WHOLE_MS else length


@dataclass(frozen=True)
class _Run:
    code: tuple[int, ...]
    start: int
    end: int

    @property
    def number(self) -> int:
        return self.code[0] + 10 * self.code[1] + 100 * self.code[2]


def _runs(codes: NDArray[np.intp], clear: NDArray[np.bool_]) -> list[_Run]:
    """Group clear frames of the same number that have only unclear frames between them."""
    found: list[_Run] = []
    places = ((tuple(map(int, codes[at])), int(at)) for at in np.flatnonzero(clear))
    for code, group in groupby(places, key=lambda place: place[0]):
        frames = [at for _, at in group]
        found.append(_Run(code, frames[0], frames[-1] + 1))
    return found


def _length(groups: Sequence[Floats], runs: Sequence[_Run], at: int) -> int:
    """Return the milliseconds of a group: its clear frames and a share of the frames around it."""
    run = runs[at]
    before = runs[at - 1].end if at else 0
    after = runs[at + 1].start if at + 1 < len(runs) else len(groups[0])
    around = np.r_[max(before, run.start - 2) : run.start, run.end : min(after, run.end + 2)]
    own = np.array([group[:, tone] for group, tone in zip(groups, run.code, strict=True)])
    full = np.median(own[:, run.start : run.end], axis=1, keepdims=True)
    inside = own[:, run.start : run.end].mean(0) > HEARD * TONE
    parts = _shares(np.median(own[:, around] / full, axis=0)).sum() if len(around) else 0
    return round(float(inside.sum() + parts) * 1000 * FRAME / RATE)


def _shares(heights: Floats) -> Floats:
    """Return the share of a frame that a tone of this amplitude fills."""
    part = np.linspace(0, 1, 101)
    found = np.interp(heights, part - np.sin(2 * np.pi * part) / (2 * np.pi), part)
    return np.where(heights < NOISE, 0, found).astype(np.float32)


def _heights(pcm: bytes) -> Floats:
    """Return the amplitude of every tone in every frame. The last frame is padded with silence."""
    samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.float32) / 32768
    frames = np.pad(samples, (0, -len(samples) % FRAME)).reshape(-1, FRAME)
    both = frames @ _probes()
    found: Floats = np.hypot(*np.split(both, 2, axis=1))
    return found


@cache
def _probes() -> Floats:
    turns = np.outer(np.arange(FRAME), _hertz()) * (2 * np.pi / RATE)
    window = 1 - np.cos(2 * np.pi * np.arange(FRAME) / FRAME)[:, None]
    return (np.hstack([np.cos(turns), np.sin(turns)]) * window * 2 / FRAME).astype(np.float32)


def _hertz() -> NDArray[np.int_]:
    return LOWEST_HERTZ + STEP_HERTZ * np.arange(sum(GROUPS))


@cache
def _tone(group: int, digit: int) -> Floats:
    hertz = _hertz()[sum(GROUPS[:group]) + digit]
    turns = np.arange(RATE) * (2 * np.pi * hertz / RATE)
    return (TONE * np.sin(turns + group)).astype(np.float32)


def _chord(*digits: int) -> Floats:
    total: Floats = np.sum([_tone(*place) for place in enumerate(digits)], axis=0)
    return total


@cache
def _voices() -> Floats:
    """Return seconds of real speech without the frequencies of the tones."""
    with wave.open(str(VOICE)) as file:
        file.setpos(VOICE_FROM * RATE)
        pcm = file.readframes(VOICE_SECONDS * RATE)
    spectrum = np.fft.rfft(np.frombuffer(pcm, "<i2") / 32768)
    spectrum[VOICE_HERTZ * VOICE_SECONDS :] = 0
    voice = np.fft.irfft(spectrum)
    return (0.5 * voice / np.abs(voice).max()).astype(np.float32).reshape(VOICE_SECONDS, RATE)


def _voice(second: int) -> Floats:
    found: Floats = _voices()[second % VOICE_SECONDS]
    return found


def text_of(seconds: Iterable[Second]) -> str:
    return " ".join(map(str, seconds))


def read(text: str) -> list[Second]:
    """Return the seconds in a transcript of counting audio."""
    parts = (word.partition("/") for word in text.split())
    return [Second(int(number), int(ms or SECOND_MS)) for number, _, ms in parts]


def joined(seconds: Iterable[Second], tolerance_ms: int = 30) -> list[Second]:
    """Join the parts of seconds that were cut. A second that stays incomplete is marked.

    The tolerance is a frame and a half: a shorter part has no clear frame and is not found.
    """
    found: list[Second] = []
    for second in seconds:
        last = found[-1] if found else None
        if last and last.number == second.number and not (last.is_whole or second.is_whole):
            found[-1] = Second(second.number, last.milliseconds + second.milliseconds)
        else:
            found.append(second)
    return [
        Second(one.number) if abs(one.milliseconds - SECOND_MS) <= tolerance_ms else one
        for one in found
    ]
