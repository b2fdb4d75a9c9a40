"""What the twin hears: the numbers in counting audio, a script, or what somebody else says."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import cycle
from typing import Protocol

from tests.twin import counting
from tests.twin.audio import Audio
from tests.twin.orders import Order
from tests.twin.sentences import Sentence, Word, cut, joined, spread


@dataclass(frozen=True)
class Said:
    """The words of a recording; no text means that nobody spoke.

    What has times tells them: whole `sentences`, or `words` that the twin gathers into sentences.
    Else the words take equal parts of the recording.
    """

    text: str
    language: str = "en"
    emotion: str = "neutral"
    words: tuple[Word, ...] = ()
    sentences: tuple[Sentence, ...] = ()

    @classmethod
    def of(cls, *sentences: Sentence, language: str = "en") -> "Said":
        return cls(joined(sentences), language, sentences=sentences)

    def told(self, seconds: float, *, at_marks: bool) -> list[Sentence]:
        """Return the sentences of a recording so long; `at_marks`: punctuation ends them too."""
        if self.sentences:
            return list(self.sentences)
        return cut(
            self.words or list(spread(self.text, 0, round(seconds * 1000))), at_marks=at_marks
        )


class Words(Protocol):
    async def of(self, audio: Audio, order: Order) -> Said: ...


class Counting:
    """Hear the numbers of `tests.twin.counting`."""

    async def of(self, audio: Audio, order: Order) -> Said:
        seconds = await asyncio.to_thread(counting.decode, await audio.samples())
        return Said(counting.text_of(seconds), order.language or "en", words=_timed(seconds))


class Script:
    """Say these texts, one a call, again and again."""

    def __init__(self, *texts: str | Said) -> None:
        self._texts = cycle(texts)

    async def of(self, audio: Audio, order: Order) -> Said:
        said = next(self._texts)
        return said if isinstance(said, Said) else Said(said, order.language or "en")


Answer = str | Said


class Ask:
    """Ask a function what is said in a recording."""

    def __init__(self, asked: Callable[[Audio, Order], Answer | Awaitable[Answer]]) -> None:
        self._asked = asked

    async def of(self, audio: Audio, order: Order) -> Said:
        said = self._asked(audio, order)
        if inspect.isawaitable(said):
            said = await said
        return said if isinstance(said, Said) else Said(said, order.language or "en")


def _timed(seconds: list[counting.Second]) -> tuple[Word, ...]:
    """Return the numbers as words with the times at which they were heard."""
    words: list[Word] = []
    for second in reversed(seconds):
        end = second.at_ms + second.milliseconds
        latest = words[-1].begin_ms if words else end
        words.append(Word(f"{second} ", second.at_ms, min(end, latest)))
    return tuple(reversed(words))


def pieces(text: str) -> Iterable[str]:
    """Cut a text the way a model utters it: words with the space before them, or CJK characters."""
    word = ""
    for letter in text:
        if word and (letter == " " or letter >= "\u2e80" or word[-1] >= "\u2e80"):
            yield word
            word = ""
        word += letter
    if word:
        yield word


def token_count(text: str) -> int:
    """Count tokens roughly; nobody outside knows the model's own."""
    return sum(1 for _ in pieces(text))
