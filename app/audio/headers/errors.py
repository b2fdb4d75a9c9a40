"""The errors of header readers. A file with an unusual header is unverified and left to FFmpeg.

Header readers never repair and never guess, because verified audio is sent on without a decoder
having read it.
"""

from mmap import mmap

Bytes = bytes | mmap
"""A whole file; reading a part of it gives `bytes`."""


class UnverifiedHeaderError(Exception):
    """The file is damaged, cut short, or of a kind that the header readers do not support."""


class CutShortError(UnverifiedHeaderError):
    """By its own figures the end of the file is missing."""


def require(claim: bool) -> None:
    """Raise UnverifiedHeaderError unless the claim holds."""
    if not claim:
        raise UnverifiedHeaderError
