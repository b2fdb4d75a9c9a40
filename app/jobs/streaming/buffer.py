"""Telling the text of a job as it comes, by the run that works on it.

What is told is, in the end, the text: put together, the pieces since the last reset are what the
transcript says, spaces between parts included. Only the earliest part that is not closed tells
as it hears; the others are kept back until it is their turn.

A run's event stands behind what was told before it. Whoever writes one holds the text back
meanwhile (`holding_back`), so that nobody reads past a row that is on its way.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from app.jobs.store.delta_text import UnsavedText
from app.jobs.store.live_text import NoLiveText
from app.speech.merge import glue

SAVED_CHARACTERS = 2048  # at most so much is told and not saved, but for one piece


class LiveTextBuffer(NoLiveText):
    """What one run tells. `notify` wakes its readers, `reset` writes that text is void."""

    def __init__(
        self, epoch: int, notify: Callable[[], None], reset: Callable[[], Awaitable[None]]
    ) -> None:
        self.epoch = epoch
        self.version = 0  # raised when a row was written
        self.has_unsaved = asyncio.Event()
        self.is_full = asyncio.Event()
        self._notify, self._reset = notify, reset
        self._store: tuple[list[int], list[str]] = ([], [])  # where pieces start, and the pieces
        self._length = self._saved = self._joined = 0
        self._limits: list[int] = []  # of the rows that are being written, in their order
        self._pledge: UnsavedText | None = None
        self._lock = asyncio.Lock()
        self._tail = ""
        self._open: dict[int, PartSink] = {}
        self._turn: PartSink | None = None
        self._is_closing = False

    # -- the text ----------------------------------------------------------------------------

    @property
    def visible(self) -> int:
        """How many characters may be read now."""
        return self._limits[0] if self._limits else self._length

    @property
    def pledge(self) -> UnsavedText:
        """What the next row stands behind; inside a fence it does not change."""
        return self._pledge or self._unsaved(self.visible)

    def text(self, start: int, end: int) -> str:
        """Return what was told from one character to another."""
        starts, pieces = self._store
        first = max(0, bisect_right(starts, start) - 1)
        last = bisect_right(starts, max(start, end - 1))
        if first >= last:
            return ""
        offset = starts[first]
        return "".join(pieces[first:last])[start - offset : end - offset]

    def tell(self, text: str) -> None:
        starts, pieces = self._store
        starts.append(self._length)
        pieces.append(text)
        self._length += len(text)
        self.has_unsaved.set()
        if self._length - self._saved >= SAVED_CHARACTERS:
            self.is_full.set()
        self._notify()

    @asynccontextmanager
    async def holding_back(self, first: int | None = None) -> AsyncIterator[None]:
        """Hold back what is told from here on; rows of several fences keep their order.

        Where the `first` row stands before the last, what is told between them is held as well.
        """
        end = self._length
        limit = end if first is None else first
        self._limits.append(limit)
        try:
            async with self._lock:
                self._pledge = self._unsaved(end)
                try:
                    yield
                    self._note_saved(end)
                finally:
                    self._pledge = None
                    self.version += 1
        finally:
            self._limits.remove(limit)
            self._notify()

    async def save(self, write: Callable[[UnsavedText], Awaitable[None]]) -> bool:
        """Save what may be read; False where there is nothing of that."""
        async with self._lock:
            pledge = self._unsaved(self.visible)
            if not pledge.text:
                return False
            await write(pledge)
            self._note_saved(pledge.end)
            return True

    def _unsaved(self, end: int) -> UnsavedText:
        start = min(self._saved, end)
        return UnsavedText(start, self.text(start, end))

    def _note_saved(self, end: int) -> None:
        self._saved = max(self._saved, end)
        self.is_full.clear()
        if self._saved == self._length:
            self.has_unsaved.clear()
        starts, pieces = self._store
        upto = bisect_right(starts, self._saved - 1)
        done = slice(self._joined, upto)
        if upto - self._joined > 1:
            # A new list: a thread that writes may be reading the old one.
            self._store = (
                [*starts[: self._joined], starts[self._joined], *starts[upto:]],
                [*pieces[: self._joined], "".join(pieces[done]), *pieces[upto:]],
            )
        self._joined = min(self._joined + 1, upto)

    # -- the parts ---------------------------------------------------------------------------

    def part(self, index: int) -> "PartSink":
        """Return the part's sink; see Untold."""
        if index not in self._open:
            self._open[index] = PartSink(self)
            self._take_turn()
        return self._open[index]

    def skip_known(self, text: str) -> None:
        """See Untold."""
        self._tail = text.strip()[-1:] or self._tail

    @asynccontextmanager
    async def closing_parts(self, texts: Sequence[tuple[int, str]]) -> AsyncIterator[Sequence[int]]:
        """See Untold. Where other words were told, they are void first."""
        self._is_closing = True
        if texts:  # of the first of them only: the others had no turn
            await self._void_unless_told(*texts[0])
        # No reader comes between here and the fence.
        ends = [self._close(index, text) for index, text in texts]
        async with self.holding_back(*ends[:1]):
            yield ends
        self._is_closing, self._turn = False, None
        self._take_turn()

    async def _void_unless_told(self, index: int, text: str) -> None:
        sink = self.part(index)
        if not text.strip().startswith(sink.said):
            await self._reset()
            sink.discard()

    def _close(self, index: int, text: str) -> int:
        self.part(index).tell_rest(text.strip())
        self.skip_known(text)
        del self._open[index]
        return self._length

    def lead_to(self, text: str) -> str:
        """Return what belongs between the part before and this text."""
        return glue(self._tail, text)

    def is_turn_of(self, sink: "PartSink") -> bool:
        return self._turn is sink

    def _take_turn(self) -> None:
        if self._turn is None and not self._is_closing and self._open:
            self._turn = self._open[min(self._open)]
            self._turn.flush()


class PartSink:
    """Where an engine's text of one part goes: told at once, or kept until it is its turn.

    White space around a part is no text; it is told once more text follows it.
    """

    def __init__(self, telling: LiveTextBuffer) -> None:
        self._telling = telling
        self._kept: list[str] = []
        self._said: list[str] = []

    @property
    def said(self) -> str:
        return "".join(self._said)

    @property
    def was_published(self) -> bool:
        """Whether anybody may have read text of this part."""
        return bool(self._said)

    def __call__(self, text: str) -> None:
        self._kept.append(text)
        if self._telling.is_turn_of(self):
            self.flush()

    def flush(self) -> None:
        """Tell what was kept."""
        text = "".join(self._kept)
        text = text if self._said else text.lstrip()
        words = text.rstrip()
        self._kept = [text[len(words) :]] if self._said or words else []
        self._tell(words)

    def tell_rest(self, text: str) -> None:
        """Tell what is missing of the part's whole text."""
        self._kept.clear()
        self._tell(text[len(self.said) :])

    def discard(self) -> None:
        """Forget what was heard: the call that brought it has failed."""
        self._kept.clear()
        self._said.clear()

    def _tell(self, text: str) -> None:
        if text:
            lead = "" if self._said else self._telling.lead_to(text)
            self._said.append(text)
            self._telling.tell(lead + text)
