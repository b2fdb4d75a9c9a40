"""Live text of a run, as the functions that write the run's rows need it."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import NamedTuple, Protocol

from app.jobs.store.events import Event


class TextSink(Protocol):
    """Receives the text of one part, piece by piece, as its engine sends it."""

    @property
    def was_published(self) -> bool:
        """Whether a client may have read text of this part."""

    def __call__(self, text: str) -> None: ...

    def discard(self) -> None:
        """Discard the text of the part: the call that brought it has failed."""


class UnstoredText(NamedTuple):
    """Text that clients may have read behind the event `after`, and that is in no event yet."""

    after: int = -1
    text: str = ""


class NoLiveText:
    """Live text of a run whose job is not streamed: no engine is asked for a stream."""

    @property
    def unstored(self) -> UnstoredText:
        """The text to be stored in front of the next event that this run adds."""
        return UnstoredText()

    def note_stored(self, first: int, events: Sequence[Event]) -> None:
        """Note the events that a transaction of this run adds, from the number `first` on."""

    def holding_back(self) -> AbstractAsyncContextManager[None]:
        """Publish no text while the block adds events: the text belongs behind them."""
        return nullcontext()

    def part(self, _index: int) -> TextSink | None:
        """Return the sink of a part's text. Parts are to be asked for in their order."""
        return None

    def skip_known(self, text: str) -> None:
        """Take note of a part whose `segment` event an earlier run has added."""

    def closing_parts(
        self, texts: Sequence[tuple[int, str]]
    ) -> AbstractAsyncContextManager[Sequence[str]]:
        """Hold text back while the block adds the `segment` events of the next parts in order.

        `texts` has the index and the final text of each. The block gets, for each, the text that
        was not published yet: it has to be added as a `delta` in front of the part's segment.
        """
        return nullcontext([""] * len(texts))


NO_LIVE_TEXT = NoLiveText()
