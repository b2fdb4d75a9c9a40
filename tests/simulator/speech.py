"""The simulator's transcription: the numbers of counting audio, a script, or a function."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import cycle
from typing import Protocol

from tests.simulator import counting
from tests.simulator.audio import Audio
from tests.simulator.orders import Order
from tests.simulator.sentences import Sentence, Word, cut, joined, spread


@dataclass(frozen=True)
class Speech:
    """The words of a recording. An empty text means no speech.

    Timings come from complete `sentences`, or from `words` that are grouped into sentences.
    Otherwise the words have equal durations.
    """

    text: str
    language: str = "en"
    emotion: str = "neutral"
    words: tuple[Word, ...] = ()
    sentences: tuple[Sentence, ...] = ()

    @classmethod
    def of(cls, *sentences: Sentence, language: str = "en") -> "Speech":
        return cls(joined(sentences), language, sentences=sentences)

    def told(self, seconds: float, *, at_marks: bool) -> list[Sentence]:
        """Return the sentences of a recording of this length; `at_marks` cuts at punctuation."""
        if self.sentences:
            return list(self.sentences)
        return cut(
            self.words or list(spread(self.text, 0, round(seconds * 1000))), at_marks=at_marks
        )


class SpeechSource(Protocol):
    async def of(self, audio: Audio, order: Order) -> Speech: ...


class Counting:
    """Transcribes the numbers of `tests.simulator.counting`."""

    async def of(self, audio: Audio, order: Order) -> Speech:
        seconds = await asyncio.to_thread(counting.decode, await audio.samples())
        return Speech(counting.text_of(seconds), order.language or "en", words=_timed(seconds))


class Script:
    """Returns these texts in turn, one per call."""

    def __init__(self, *texts: str | Speech) -> None:
        self._texts = cycle(texts)

    async def of(self, audio: Audio, order: Order) -> Speech:
        said = next(self._texts)
        return said if isinstance(said, Speech) else Speech(said, order.language or "en")


Answer = str | Speech


class Ask:
    """Returns the text of a function of the recording."""

    def __init__(self, asked: Callable[[Audio, Order], Answer | Awaitable[Answer]]) -> None:
        self._asked = asked

    async def of(self, audio: Audio, order: Order) -> Speech:
        said = self._asked(audio, order)
        if inspect.isawaitable(said):
            said = await said
        return said if isinstance(said, Speech) else Speech(said, order.language or "en")


def _timed(seconds: list[counting.Second]) -> tuple[Word, ...]:
    """Return the numbers as words with their times."""
    words: list[Word] = []
    for second in reversed(seconds):
        end = second.at_ms + second.milliseconds
        latest = words[-1].begin_ms if words else end
        words.append(Word(f"{second} ", second.at_ms, min(end, latest)))
    return tuple(reversed(words))


def pieces(text: str) -> Iterable[str]:
    """Cut a text into a model's pieces: words with the space before, or CJK characters."""
    word = ""
    for letter in text:
        if word and (letter == " " or letter >= "\u2e80" or word[-1] >= "\u2e80"):
            yield word
            word = ""
        word += letter
    if word:
        yield word


def token_count(text: str) -> int:
    """Return an approximate number of tokens; the model's own count is not public."""
    return sum(1 for _ in pieces(text))
