"""Words and sentences with times, as the asynchronous models return them (protocol 3.4)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

PAUSE_MS = 500
LONGEST_MS = 20_000
ENDS = ".?!。？！"  # noqa: RUF001 - both scripts end sentences
_WIDE = "\u2e80-\U0010ffff"
_MARKS = ",.;:?!、。，；：？！…"  # noqa: RUF001
_TOKEN = re.compile(
    rf"(?P<word>[{_WIDE}]|[^\s{_WIDE}]+?)(?P<marks>[{_MARKS}]*)(?P<space>\s+|(?=[{_WIDE}])|$)"
    rf"|(?P<wide>[{_WIDE}])(?P<wide_marks>[{_MARKS}]*)(?P<wide_space>\s*)"
)


@dataclass(frozen=True)
class Word:
    """A word from `begin_ms` to `end_ms`. A space after it belongs to its last piece."""

    text: str
    begin_ms: int
    end_ms: int
    punctuation: str = ""

    @property
    def whole(self) -> str:
        return self.text + self.punctuation


@dataclass(frozen=True)
class Sentence:
    """Words of one speaker. Language and emotion default to those of the recording."""

    words: tuple[Word, ...]
    language: str | None = None
    emotion: str | None = None
    speaker: int | None = None

    @property
    def text(self) -> str:
        return "".join(word.whole for word in self.words).strip()

    @property
    def begin_ms(self) -> int:
        return self.words[0].begin_ms

    @property
    def end_ms(self) -> int:
        return self.words[-1].end_ms


def speech_from(
    begin_ms: int,
    end_ms: int,
    text: str,
    *,
    language: str | None = None,
    emotion: str | None = None,
    speaker: int | None = None,
) -> Sentence:
    """Return the text as a sentence with words of equal duration."""
    return Sentence(tuple(spread(text, begin_ms, end_ms)), language, emotion, speaker)


def spread(text: str, begin_ms: int, end_ms: int) -> Iterator[Word]:
    """Yield the words of a text with equal durations."""
    parts = list(_parts(text.strip()))
    length = end_ms - begin_ms
    for at, (word, marks) in enumerate(parts):
        start = begin_ms + length * at // len(parts)
        yield Word(word, start, begin_ms + length * (at + 1) // len(parts), marks)


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """Yield words with the punctuation after them. Together they are the text."""
    for found in _TOKEN.finditer(text):
        word = found["word"] or found["wide"]
        marks = found["marks"] or found["wide_marks"] or ""
        space = found["space"] or found["wide_space"] or ""
        yield (word, marks + space) if marks else (word + space, "")


def joined(sentences: Iterable[Sentence]) -> str:
    """Return the text of all sentences, joined by spaces in scripts that have spaces."""
    text = ""
    for sentence in sentences:
        gap = " " if text and not (text[-1].isspace() or _is_wide(text[-1])) else ""
        text += gap + "".join(word.whole for word in sentence.words)
    return text.strip()


def _is_wide(letter: str) -> bool:
    return letter >= _WIDE[0]


def cut(words: Sequence[Word], *, at_marks: bool) -> list[Sentence]:
    """Cut at pauses, at a maximum length, and at punctuation if requested."""
    found: list[Sentence] = []
    open_words: list[Word] = []
    for word in words:
        if open_words and _ends(open_words, word, at_marks=at_marks):
            found.append(Sentence(tuple(open_words)))
            open_words = []
        open_words.append(word)
    return [*found, Sentence(tuple(open_words))] if open_words else found


def _ends(before: Sequence[Word], word: Word, *, at_marks: bool) -> bool:
    last = before[-1]
    return (
        word.begin_ms - last.end_ms >= PAUSE_MS
        or word.end_ms - before[0].begin_ms > LONGEST_MS
        or (at_marks and last.punctuation.strip()[-1:] in tuple(ENDS))
    )
