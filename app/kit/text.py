"""Text: whether it can be stored or printed, and its comparison."""

import re

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Return whether every database can store a text.

    PostgreSQL stores no NUL character. Half a surrogate pair, which JSON can spell, has no UTF-8.
    """
    if text.isascii():
        return "\x00" not in text
    return _UNSTORABLE.search(text) is None


def printable(text: str) -> str:
    """Return a text with a question mark in place of each character that cannot be printed."""
    return "".join(character if character.isprintable() else "?" for character in text)


def without_spaces(text: str) -> str:
    """Return a text without white space, for comparison."""
    return "".join(text.split())
