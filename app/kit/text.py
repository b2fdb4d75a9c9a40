"""Text: whether it can be stored or printed, its comparison, and similar names."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Return whether every database can store a text.

    PostgreSQL stores no NUL character. Half a surrogate pair, which JSON can spell, has no UTF-8.
    """
    if text.isascii():
        return "\x00" not in text
    return _UNSTORABLE.search(text) is None


def storable(text: str, max_length: int | None = None) -> str:
    """Return a text that every database can store, cut to at most `max_length` characters.

    A character that cannot be stored is replaced by U+FFFD.
    """
    if not is_storable(text):
        text = _UNSTORABLE.sub("\ufffd", text)
    return text if max_length is None else text[:max_length]


def printable(text: str) -> str:
    """Return a text with a question mark in place of each character that cannot be printed."""
    return "".join(character if character.isprintable() else "?" for character in text)


def without_spaces(text: str) -> str:
    """Return a text without white space, for comparison."""
    return "".join(text.split())


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence, after a space, with the known name most similar to `name`, or nothing.

    Case, hyphens and underscores do not count.
    """
    folded = {_folded(one): one for one in known}
    found = get_close_matches(_folded(name), folded, n=1, cutoff=0.65)
    return f" Did you mean `{folded[found[0]]}`?" if found else ""


def _folded(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")
