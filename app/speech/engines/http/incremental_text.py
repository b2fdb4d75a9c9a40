"""Text that grows while it is heard, told as far as it is certain. Pure.

What was told cannot be taken back here: where an engine rewrites it, nothing more is told, and
whoever listens learns the whole at the end.
"""

import re

from app.speech.engine import DeltaSink
from app.speech.engines.http.json_body import malformed_response

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
PIECES_THAT_SHOW = 3  # of which each holds the one before it: then every one is all the text so far


class IncrementalText:
    """The text of one call."""

    def __init__(self, tell: DeltaSink) -> None:
        self._tell = tell
        self._told = 0  # characters of the text
        self._is_rewritten = False
        self.text = ""

    def add(self, piece: str) -> None:
        """Take in what comes after the text so far. Raises EngineError (garbled)."""
        _check(piece)
        self.text += piece
        self._tell_rest()

    def become(self, whole: str) -> None:
        """Take in all of the text so far. Raises EngineError (garbled)."""
        _check(whole)
        if not whole.startswith(self.text[: self._told]):
            self._is_rewritten = True
        self.text = whole
        self._tell_rest()

    def _tell_rest(self) -> None:
        if not self._is_rewritten and len(self.text) > self._told:
            piece, self._told = self.text[self._told :], len(self.text)
            self._tell(piece)


class FrameMerger:
    """Text in frames that each hold what is new, as was asked for, or all so far nevertheless.

    A piece that begins with the one before it may be either: it is not told before the next one
    shows which. Where none does, it is what was asked for, so that nothing can be lost.
    """

    def __init__(self, growing: IncrementalText) -> None:
        self._growing = growing
        self._unsure: list[str] = []
        self._are_whole: bool | None = None

    def take(self, piece: str, *, is_last: bool) -> None:
        """Take in the text of one frame. Raises EngineError (garbled)."""
        if self._are_whole is None and piece:
            self._judge(piece, is_last=is_last)
        elif self._are_whole and piece:
            if len(piece) < len(self._growing.text) and self._growing.text.startswith(piece):
                raise malformed_response(
                    "a frame that holds less of the text than the one before it"
                )
            self._growing.become(piece)
        elif piece:
            self._growing.add(piece)
        if is_last and self._are_whole is None:
            self._settle(are_whole=False)

    def _judge(self, piece: str, *, is_last: bool) -> None:
        """Find out what the frames hold, by the first few of them."""
        pieces = self._unsure
        pieces.append(piece)
        if len(pieces) == 1:
            self._growing.become(piece)
            return
        before = pieces[-2]
        again = is_last and len(pieces) == PIECES_THAT_SHOW and piece == before
        if not again and (len(piece) <= len(before) or not piece.startswith(before)):
            self._settle(are_whole=False)
        elif len(pieces) == PIECES_THAT_SHOW:
            self._settle(are_whole=True)

    def _settle(self, *, are_whole: bool) -> None:
        self._are_whole = are_whole
        if are_whole:
            self._growing.become(self._unsure[-1])
        else:
            self._growing.add("".join(self._unsure[1:]))
        self._unsure.clear()


def _check(text: str) -> None:
    """Refuse what no database or UTF-8 can hold."""
    if _UNSTORABLE.search(text):
        raise malformed_response("text with a NUL character or half a surrogate pair")
