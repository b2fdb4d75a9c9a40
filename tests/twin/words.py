"""What the twin hears: the numbers in counting audio, a script, or what somebody else says."""

import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import cycle
from typing import Protocol

from tests.twin import counting
from tests.twin.audio import Audio
from tests.twin.orders import Order


@dataclass(frozen=True)
class Said:
    """The words of a recording; no text means that nobody spoke."""

    text: str
    language: str = "en"
    emotion: str = "neutral"


class Words(Protocol):
    async def of(self, audio: Audio, order: Order) -> Said: ...


class Counting:
    """Hear the numbers of `tests.twin.counting`."""

    async def of(self, audio: Audio, order: Order) -> Said:
        seconds = counting.decode(await audio.samples())
        return Said(counting.text_of(seconds), order.language or "en")


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
