"""Repetition loops: a model that writes the same words many times although they were spoken once.

A text is read as tokens: words, or characters where the script has no spaces, without punctuation
and case. It loops where a sequence of tokens follows itself more often than people repeat
themselves: a word 20 times, a sentence 5 or 6 times, with nothing between. Counting, `no no no`,
and the choruses of a song, which have verses between them, stay below these counts. A litany or a
long `la la la` may not: so a loop is reported and transcribed again, and never cut out.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.speech.merge import has_unspaced

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LONGEST_PERIOD = 200
LONGEST_WORD = 60  # characters; a longer word is read character by character
# Repetitions in a row that make a loop, for periods of at most so many tokens.
TIMES = ((1, 20), (2, 12), (5, 9), (12, 6), (LONGEST_PERIOD, 5))
_TIMES_OF_PERIOD = tuple(
    next(times for longest, times in TIMES if period <= longest)
    for period in range(1, LONGEST_PERIOD + 1)
)
_FEWEST_REPEATED = min(period * (n - 1) for period, n in enumerate(_TIMES_OF_PERIOD, 1))
_WORD = re.compile(r"\w+", re.UNICODE)


@dataclass(frozen=True, slots=True)
class Repetition:
    """A sequence of `period` tokens that occurs `times` in a row.

    `share` is the part of all tokens that repeat the tokens one period before, from 0 to 1.
    """

    period: int
    times: int
    share: float


def find_loop(text: str) -> Repetition | None:
    """Return the loop with the largest share of a text, or None.

    A text in which few tokens occur twice takes microseconds, others up to some milliseconds.
    """
    tokens: list[str] = _WORD.findall(text.lower())
    if not text.isascii() or max(map(len, tokens), default=0) > LONGEST_WORD:
        words, tokens = tokens, []
        for word in words:
            # Adding a text to a list adds its characters.
            tokens += word if len(word) > LONGEST_WORD or has_unspaced(word) else (word,)
    if len(tokens) - len(set(tokens)) < _FEWEST_REPEATED:
        return None
    numbers: dict[str, int] = {}
    for token in tokens:
        numbers.setdefault(token, len(numbers))
    import numpy as np  # noqa: PLC0415 - 17 MB that an idle process saves

    numbered = np.array([numbers[token] for token in tokens], np.int64)
    found = [
        loop
        for period, times in enumerate(_TIMES_OF_PERIOD, 1)
        if period * times <= len(tokens) and (loop := _loop(numbered, period, times))
    ]
    return max(found, key=lambda loop: loop.share, default=None)


def share_of_loops(text: str) -> float:
    """Return the share of a text that repeats itself in loops, from 0 to 1."""
    loop = find_loop(text)
    return loop.share if loop else 0.0


def _loop(tokens: "npt.NDArray[np.int64]", period: int, times: int) -> Repetition | None:
    import numpy as np  # noqa: PLC0415

    fewest = period * (times - 1)
    repeats = tokens[period:] == tokens[:-period]
    if np.count_nonzero(repeats) < fewest:
        return None
    edges = np.flatnonzero(np.diff(repeats.astype(np.int8), prepend=0, append=0))
    runs = edges[1::2] - edges[::2]
    runs = runs[runs >= fewest]
    if not len(runs):
        return None
    return Repetition(period, int(runs.max()) // period + 1, int(runs.sum()) / len(tokens))
