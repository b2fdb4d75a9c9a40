"""Live text of a run, as the functions that write its rows need it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from app.jobs.store.delta_text import UnsavedText


class TextSink(Protocol):
    """Receives the text of one part, piece by piece, as its engine sends it."""

    @property
    def was_published(self) -> bool:
        """Whether a client may have read text of this part."""

    def __call__(self, text: str) -> None: ...

    def discard(self) -> None:
        """Discard the text of the part: the call that brought it has failed."""


class NoLiveText:
    """A run of a job to which nobody listens: it asks no engine for a stream."""

    @property
    def pledge(self) -> UnsavedText:
        """What the next event stands behind."""
        return UnsavedText()

    @asynccontextmanager
    async def holding_back(self) -> AsyncIterator[None]:
        """Hold told text back while a row is written that is to stand behind it."""
        yield

    def part(self, _index: int) -> "TextSink | None":
        """Return where the text of a part goes, to be asked in the order of parts."""
        return None

    def skip_known(self, text: str) -> None:
        """Take in the text of a part whose segment an earlier run wrote."""

    @asynccontextmanager
    async def closing_parts(self, texts: Sequence[tuple[int, str]]) -> AsyncIterator[Sequence[int]]:
        """Tell what is missing of parts whose turn has come, each given by its index.

        In the block their rows are written: it is given where in the text each part ends, and is
        a fence. Then it is the next part's turn.
        """
        yield [0 for _ in texts]


NO_LIVE_TEXT = NoLiveText()
