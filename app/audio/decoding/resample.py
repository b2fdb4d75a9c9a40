"""Convert 16 bit PCM of one or two channels to 16 kHz mono, with numpy.

The filter is the one of FFmpeg's resampler (a windowed sinc with 32 zero crossings, Kaiser 9, cut
off at 97 % of the lower rate; the signal is mirrored at both ends), so the output is,
except for rounding, that of a decoder child.
"""

from functools import cache
from math import ceil, gcd
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.audio.pcm import RATES, SAMPLE_BYTES, SAMPLE_RATE

_ZERO_CROSSINGS = 32
_CUTOFF = 0.97
_KAISER_BETA = 9.0
_GROUP = 16  # output samples that one matrix makes; a larger one would hold more zeros

_Samples = npt.NDArray[np.float32]


class Resampler:
    """Converts one audio, given in pieces of at most `max_bytes`.

    Raises ValueError for a rate that is not in RATES and for more than two channels.
    """

    def __init__(self, rate: int, channels: int, max_bytes: int) -> None:
        if rate not in RATES or channels not in {1, 2}:
            raise ValueError(f"{rate} Hz with {channels} channels is not converted here")
        self._channels = channels
        self._filter = _filter(rate, channels)
        # One buffer for all pieces: new ones of this size would be new pages of memory each time.
        spare = 2 * self._filter.span + self._filter.inputs
        self._buffer = np.zeros(max_bytes // SAMPLE_BYTES // channels + spare, np.float32)
        # The first `lead` samples of the buffer are those before the next block of output.
        self._filled = self._filter.lead
        self._received = 0
        self._returned = 0

    def convert(self, pcm: bytes) -> bytes:
        """Return the output that is complete. `pcm` holds whole frames."""
        samples = np.frombuffer(pcm, "<i2")
        count = len(samples) // self._channels
        target = self._buffer[self._filled : self._filled + count]
        if self._channels == 1:
            target[:] = samples
        else:
            np.add(samples[::2], samples[1::2], out=target, dtype=np.float32)
        was_mirrored = self._received > self._filter.lead
        self._filled += count
        self._received += count
        if self._received <= self._filter.lead:
            return b""
        if not was_mirrored:
            self._mirror_start()
        return self._made()

    def end(self) -> bytes:
        """Return the rest of the output."""
        if not self._received:
            return b""
        if self._received <= self._filter.lead:
            self._mirror_start()
        span = self._filter.span
        mirrored = self._buffer[max(0, self._filled - span) : self._filled][::-1].copy()
        end = self._filled + self._filter.inputs + span
        self._buffer[self._filled : end] = 0
        self._buffer[self._filled : self._filled + len(mirrored)] = mirrored
        self._filled = end
        whole = ceil(self._received * self._filter.outputs / self._filter.inputs)
        left = whole - self._returned
        return self._made()[: left * SAMPLE_BYTES]

    def _mirror_start(self) -> None:
        lead = self._filter.lead
        mirrored = self._buffer[lead + 1 : lead + 1 + min(lead, self._received - 1)][::-1]
        self._buffer[lead - len(mirrored) : lead] = mirrored.copy()

    def _made(self) -> bytes:
        """Compute the blocks with enough input, and drop the input that they used."""
        used = self._filter
        count = max(0, (self._filled - used.span) // used.inputs + 1)
        made = np.empty((count, used.outputs), np.float32)
        if count:
            for index, (first, matrix) in enumerate(used.groups):
                # One row for each block; the rows overlap in memory.
                rows = np.lib.stride_tricks.as_strided(
                    self._buffer[first:],
                    (count, len(matrix)),
                    (used.inputs * self._buffer.itemsize, self._buffer.itemsize),
                )
                at = index * _GROUP
                np.matmul(rows, matrix, out=made[:, at : at + matrix.shape[1]])
        kept = self._filled - count * used.inputs
        self._buffer[:kept] = self._buffer[count * used.inputs : self._filled].copy()
        self._filled = kept
        self._returned += made.size
        np.rint(made, out=made)
        np.clip(made, -32_768, 32_767, out=made)
        return made.astype("<i2").tobytes()


class _Filter(NamedTuple):
    """The filter that converts a block of `inputs` samples to `outputs` samples.

    The window of a block has `span` samples and begins `lead` samples before the block. A group is
    the first window sample of its matrix, and the matrix with one column for each output sample.
    """

    inputs: int
    outputs: int
    lead: int
    span: int
    groups: tuple[tuple[int, _Samples], ...]


@cache
def _filter(rate: int, channels: int) -> _Filter:
    """Return the filter. It also divides the sum of the channels by their number."""
    divisor = gcd(rate, SAMPLE_RATE)
    times = ceil(_GROUP * divisor / SAMPLE_RATE)  # small blocks are joined until they fill a group
    inputs, outputs = rate // divisor * times, SAMPLE_RATE // divisor * times
    cutoff = min(1.0, SAMPLE_RATE * _CUTOFF / rate)
    taps = 1 if rate == SAMPLE_RATE else ceil(_ZERO_CROSSINGS / cutoff)  # one tap: nothing changes
    lead = (taps - 1) // 2
    positions = [divmod(number * inputs, outputs) for number in range(outputs)]
    groups = []
    for start in range(0, outputs, _GROUP):
        members = positions[start : start + _GROUP]
        first = members[0][0]
        matrix = np.zeros((members[-1][0] - first + taps, len(members)), np.float32)
        for column, (whole, part) in enumerate(members):
            x = np.pi * (np.arange(taps) - lead - part / outputs) * cutoff
            window = 1 - (2 * x / (cutoff * taps * np.pi)) ** 2
            values = np.sinc(x / np.pi) * np.i0(_KAISER_BETA * np.sqrt(np.maximum(window, 0)))
            matrix[whole - first : whole - first + taps, column] = values / values.sum() / channels
        groups.append((first, matrix))
    return _Filter(inputs, outputs, lead, positions[-1][0] + taps, tuple(groups))
