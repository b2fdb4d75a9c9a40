"""The end of a job's event log in memory, in the process that runs the job.

It holds the events that the run has added since it began: the live text as it was published, stored
or not, and the stored events. Readers of this process need no database for it.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from app.jobs.store.events import DELTA, Event
from app.jobs.streaming.cursor import Position

MOST_ITEMS = 512  # older ones are read from the database, where all but the last text is stored


@dataclass(slots=True)
class LogItem:
    """One event as a reader gets it. `seq` and `offset` are its end, see Position.

    `frame` may keep its bytes on the wire for the next reader.
    """

    seq: int
    offset: int
    type: str
    data: Mapping[str, Any]
    order: tuple[int, int] = (0, 0)  # characters published up to its end, and `seq`
    frame: bytes = b""


class LiveLog:
    """Events behind `first_seq`, the number of events that the job had when its run began."""

    def __init__(self, first_seq: int) -> None:
        self.last_seq = first_seq  # of the stored events
        self.stored = self.published = 0  # characters of text
        self._first_seq = first_seq
        self._text_before = [0]  # characters stored up to each event from `first_seq` on
        self._items: list[LogItem] = []
        self._dropped = (-1, 0)  # the order of the last item that is not held any more

    @property
    def unstored_characters(self) -> int:
        return self.published - self.stored

    def add_text(self, text: str) -> None:
        """Publish text that is not stored yet."""
        self.published += len(text)
        offset = self.published - self._text_before[-1]
        self._add(LogItem(self.last_seq, offset, DELTA, {"text": text}))

    def add_stored(self, events: Sequence[Event]) -> None:
        """Add the next stored events, and publish the part of them that is not published yet."""
        for event in events:
            self.last_seq += 1
            if event.type == DELTA:
                text = event.data["text"]
                self.stored += len(text)
                if self.stored > self.published:
                    unread = text[self.published - self.stored :]
                    self.published = self.stored
                    self._add(LogItem(self.last_seq, 0, DELTA, {"text": unread}))
            else:
                self._add(LogItem(self.last_seq, 0, event.type, event.data))
            self._text_before.append(self.stored)

    def after(self, at: Position) -> Sequence[LogItem] | None:
        """Return the items behind a position; None where they have to be read from the database."""
        index = at.seq - self._first_seq
        if not 0 <= index < len(self._text_before):
            return None
        order = (self._text_before[index] + at.offset, at.seq)
        if order < self._dropped:
            return None
        return self._items[bisect_right(self._items, order, key=attrgetter("order")) :]

    def _add(self, item: LogItem) -> None:
        item.order = (self.published, item.seq)
        self._items.append(item)
        if len(self._items) > MOST_ITEMS:
            stored = bisect_right(self._items, self.stored, key=lambda item: item.order[0])
            if drop := min(stored, MOST_ITEMS // 2):
                self._dropped = self._items[drop - 1].order
                del self._items[:drop]
