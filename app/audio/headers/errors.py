"""How header readers say no: whatever is odd is doubtful, and what is doubtful is left to FFmpeg.

They never repair and never guess, for a recording they vouch for is sent on without a decoder
having seen it.
"""

from mmap import mmap

Bytes = bytes | mmap
"""A whole file; reading a part of it gives `bytes`."""


class UnverifiedHeaderError(Exception):
    """The file is damaged, cut short, or of a kind that is not read here."""


class CutShortError(UnverifiedHeaderError):
    """The file's own figures say that its end is missing."""


def require(claim: bool) -> None:
    """Raise DoubtfulError unless the claim holds."""
    if not claim:
        raise UnverifiedHeaderError
