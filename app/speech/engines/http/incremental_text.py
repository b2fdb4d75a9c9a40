"""The text of one call while it is streamed, reported as far as it is certain. Pure.

Reported text cannot be taken back. If an engine rewrites it, nothing more is reported, and the
listener gets the whole text at the end.
"""

from app.kit.text import is_storable
from app.speech.engine import DeltaSink
from app.speech.engines.http.failures import malformed_response

CUMULATIVE_FRAMES = 3  # that each begin with the one before it show that frames are cumulative


class IncrementalText:
    """The text so far. `append` and `replace` raise EngineError for text that no store accepts."""

    def __init__(self, on_delta: DeltaSink) -> None:
        self._on_delta = on_delta
        self._reported = 0  # characters of the text
        self._is_rewritten = False
        self.text = ""

    def append(self, piece: str) -> None:
        """Add text at the end."""
        _require_storable_text(piece)
        self.text += piece
        self._report()

    def replace(self, whole: str) -> None:
        """Replace the text so far."""
        _require_storable_text(whole)
        if not whole.startswith(self.text[: self._reported]):
            self._is_rewritten = True
        self.text = whole
        self._report()

    def _report(self) -> None:
        if not self._is_rewritten and len(self.text) > self._reported:
            piece, self._reported = self.text[self._reported :], len(self.text)
            self._on_delta(piece)


class FrameMerger:
    """Text from frames that are either incremental, as requested, or cumulative nevertheless.

    A frame that begins with the one before it may be either, so it is held back until the next
    frame shows which. Without such a frame they are incremental, so that no text can be lost.
    """

    def __init__(self, text: IncrementalText) -> None:
        self._text = text
        self._ambiguous: list[str] = []
        self._are_cumulative: bool | None = None

    def take(self, piece: str, *, is_last: bool) -> None:
        """Add the text of one frame. Raises EngineError."""
        if piece and self._are_cumulative is None:
            self._classify(piece, is_last=is_last)
        elif piece and self._are_cumulative:
            if len(piece) < len(self._text.text) and self._text.text.startswith(piece):
                raise malformed_response("a frame with less text than the one before it")
            self._text.replace(piece)
        elif piece:
            self._text.append(piece)
        if is_last and self._are_cumulative is None:
            self._settle(are_cumulative=False)

    def _classify(self, piece: str, *, is_last: bool) -> None:
        """Find out by the first frames which kind they are."""
        pieces = self._ambiguous
        pieces.append(piece)
        if len(pieces) == 1:
            self._text.replace(piece)
            return
        before = pieces[-2]
        is_repeated = is_last and len(pieces) == CUMULATIVE_FRAMES and piece == before
        if not is_repeated and (len(piece) <= len(before) or not piece.startswith(before)):
            self._settle(are_cumulative=False)
        elif len(pieces) == CUMULATIVE_FRAMES:
            self._settle(are_cumulative=True)

    def _settle(self, *, are_cumulative: bool) -> None:
        self._are_cumulative = are_cumulative
        if are_cumulative:
            self._text.replace(self._ambiguous[-1])
        else:
            self._text.append("".join(self._ambiguous[1:]))
        self._ambiguous.clear()


def _require_storable_text(text: str) -> None:
    if not is_storable(text):
        raise malformed_response("text with a NUL character or half a surrogate pair")
