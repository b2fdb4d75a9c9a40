"""Repetition loops: a model that says the same again and again where somebody said it once.

A text is read as words, or as characters where the script has no spaces, without punctuation and
case. It loops where a period of them follows itself more often than people repeat themselves: a
word twenty times, a sentence six times, without anything between. Counting, `no no no` and a
song's choruses, which have verses between them, stay below; a litany or a long `la la la` may
not, so that a loop is only ever reported and asked anew, never cut out.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.speech.merge import is_unspaced

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LONGEST_PERIOD = 200
LONGEST_WORD = 60  # characters; what is longer is read character by character
# How often a period of at most so many tokens has to be there in a row.
TIMES = ((1, 20), (2, 12), (5, 9), (12, 6), (LONGEST_PERIOD, 5))
_WORD = re.compile(r"\w+", re.UNICODE)


@dataclass(frozen=True, slots=True)
class Repetition:
    """`period` tokens that are there `times` in a row; `share` of all tokens repeat others."""

    period: int
    times: int
    share: float


def find_loop(text: str) -> Repetition | None:
    """Return the loop that most of a text is, or None where it has none. Pure, some ms a part."""
    tokens = _numbered(text)
    found = [loop for period, times in _periods() if (loop := _loop(tokens, period, times))]
    return max(found, key=lambda loop: loop.share, default=None)


def share_of_loops(text: str) -> float:
    """Return how much of a text only repeats it, from 0 to 1."""
    loop = find_loop(text)
    return loop.share if loop else 0.0


def _periods() -> list[tuple[int, int]]:
    spans = zip((0, *(most for most, _ in TIMES)), TIMES, strict=False)
    return [(p, times) for below, (most, times) in spans for p in range(below + 1, most + 1)]


def _loop(tokens: "npt.NDArray[np.int64]", period: int, times: int) -> Repetition | None:
    if len(tokens) < period * times:
        return None
    repeats = tokens[period:] == tokens[:-period]
    import numpy as np  # noqa: PLC0415 - 17 MB that an idle process saves

    edges = np.flatnonzero(np.diff(repeats.astype(np.int8), prepend=0, append=0))
    runs = edges[1::2] - edges[::2]
    runs = runs[runs >= period * (times - 1)]
    if not len(runs):
        return None
    return Repetition(period, int(runs.max()) // period + 1, int(runs.sum()) / len(tokens))


def _numbered(text: str) -> "npt.NDArray[np.int64]":
    """Return a text as numbers, the same for the same token."""
    numbers: dict[str, int] = {}
    tokens = [token for word in _WORD.findall(text.lower()) for token in _tokens(word)]
    import numpy as np  # noqa: PLC0415

    return np.array([numbers.setdefault(token, len(numbers)) for token in tokens], np.int64)


def _tokens(word: str) -> list[str]:
    """Return a run of letters as one word, or as its characters where none ends a word."""
    if len(word) > LONGEST_WORD or any(is_unspaced(letter) for letter in word):
        return list(word)
    return [word]
