"""The live text of one run: collected from its engines, published in order, and stored.

Put together, the text since the last `reset` is the transcript's text, spaces between parts
included. Only the earliest part that is not closed publishes its text as it arrives. The text of
later parts is kept until the parts before them are closed.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from app.jobs.store.events import Event
from app.jobs.store.live_text import NoLiveText, UnstoredText
from app.jobs.streaming.log import LiveLog
from app.speech.merge import separator_between


class LiveTextBuffer(NoLiveText):
    """Publishes the text of a run in its `log`.

    `on_published` is called when the log has grown. `read_stored` returns the job's events behind a
    number from the database, `reset` adds a `reset` event.
    """

    def __init__(
        self,
        log: LiveLog,
        on_published: Callable[[], None],
        read_stored: Callable[[int], Awaitable[Sequence[Event]]],
        reset: Callable[[], Awaitable[None]],
    ) -> None:
        self.log = log
        self._on_published, self._read_stored, self._reset = on_published, read_stored, reset
        self._lock = asyncio.Lock()  # one write at a time adds events, so their numbers are known
        self._storing = ""  # unstored text when the last write began
        self._unstored: list[str] = []  # published since
        self._held: list[str] | None = None  # text that came while text is held back
        self._added: dict[int, Event] = {}  # by the present write
        self._is_uncertain = False  # the last write failed, but may have been committed
        self._tail = ""  # of the text of the parts that are closed
        self._open: dict[int, PartSink] = {}
        self._turn: PartSink | None = None
        self._is_closing = False

    # -- the text and its events -----------------------------------------------------------------

    def publish(self, text: str) -> None:
        """Publish text after all text published before."""
        if self._held is not None:
            self._held.append(text)
            return
        self._unstored.append(text)
        self.log.add_text(text)
        self._on_published()

    @property
    def is_storing(self) -> bool:
        """Whether a write is adding events now, and stores the text with them."""
        return self._lock.locked()

    @property
    def unstored(self) -> UnstoredText:
        return UnstoredText(self.log.last_seq, self._storing)

    def note_stored(self, first: int, events: Sequence[Event]) -> None:
        if not self.is_storing:
            raise RuntimeError("events were added to a streamed job without holding its text back")
        self._added.update(enumerate(events, first))

    @property
    def has_unstored_text(self) -> bool:
        return self.log.unstored_characters > 0 or self._is_uncertain

    @asynccontextmanager
    async def holding_back(self) -> AsyncIterator[None]:
        async with self.storing():
            self._held = []
            yield

    @asynccontextmanager
    async def storing(self) -> AsyncIterator[None]:
        """Fix the value of `unstored` for a block that stores it and notes the events.

        If the block fails, the next write first reads from the database how much was stored. Until
        then text is held back, as its place is not known.
        """
        async with self._lock:
            if self._is_uncertain:
                self._stored(await self._read_stored(self.log.last_seq))
            text = "".join([self._storing, *self._unstored])
            self._storing = text[len(text) - self.log.unstored_characters :]
            self._unstored, self._added = [], {}
            try:
                yield
            except BaseException:
                self._is_uncertain, self._held = True, self._held or []
                raise
            self._stored([self._added[seq] for seq in sorted(self._added)])

    def _stored(self, events: Sequence[Event]) -> None:
        self._is_uncertain = False
        self.log.add_stored(events)
        held, self._held = self._held, None
        if held:
            self.publish("".join(held))
        self._on_published()

    # -- the parts -------------------------------------------------------------------------------

    def part(self, index: int) -> "PartSink":
        if index not in self._open:
            self._open[index] = PartSink(self)
            self._take_turn()
        return self._open[index]

    def skip_known(self, text: str) -> None:
        self._tail = text.strip()[-1:] or self._tail

    @asynccontextmanager
    async def closing_parts(self, texts: Sequence[tuple[int, str]]) -> AsyncIterator[Sequence[str]]:
        self._is_closing = True
        if texts:  # only the first of them can have published text
            index, text = texts[0]
            if not text.strip().startswith(self.part(index).published):
                await self._reset()
                self.part(index).discard()
        async with self.holding_back():
            yield [self._close(index, text) for index, text in texts]
        self._is_closing, self._turn = False, None
        self._take_turn()

    def _close(self, index: int, text: str) -> str:
        """Close a part; return the text of it that was not published yet."""
        rest = self.part(index).rest_of(text.strip())
        self.skip_known(text)
        del self._open[index]
        return rest

    def lead_to(self, text: str) -> str:
        """Return what belongs between the closed parts and this text: a space, or nothing."""
        return separator_between(self._tail, text)

    def is_turn_of(self, sink: "PartSink") -> bool:
        return self._turn is sink

    def _take_turn(self) -> None:
        if self._turn is None and not self._is_closing and self._open:
            self._turn = self._open[min(self._open)]
            self._turn.flush()


class PartSink:
    """Receives the text of one part: it is published at once, or kept until the part's turn.

    White space at both ends of a part is no text. It is published once more text follows it.
    """

    def __init__(self, buffer: LiveTextBuffer) -> None:
        self._buffer = buffer
        self._kept: list[str] = []
        self._published: list[str] = []

    @property
    def published(self) -> str:
        return "".join(self._published)

    @property
    def was_published(self) -> bool:
        """Whether a client may have read text of this part."""
        return bool(self._published)

    def __call__(self, text: str) -> None:
        self._kept.append(text)
        if self._buffer.is_turn_of(self):
            self.flush()

    def flush(self) -> None:
        """Publish the text that was held back."""
        text = "".join(self._kept)
        text = text if self._published else text.lstrip()
        words = text.rstrip()
        self._kept = [text[len(words) :]] if self._published or words else []
        if words:
            lead = self._lead_to(words)
            self._published.append(words)
            self._buffer.publish(lead + words)

    def rest_of(self, text: str) -> str:
        """Return the rest of the part's whole text that was not published yet."""
        rest = text[len(self.published) :]
        return self._lead_to(rest) + rest if rest else ""

    def discard(self) -> None:
        """Discard the text: the call that brought it has failed."""
        self._kept.clear()
        self._published.clear()

    def _lead_to(self, text: str) -> str:
        return "" if self._published else self._buffer.lead_to(text)
