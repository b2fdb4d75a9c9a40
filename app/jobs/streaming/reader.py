"""Following a job: its rows and its told text as one sequence, from any position, as it grows.

What is read is kept nowhere: a reader has a position, and reads on from it when it is ready to.
In the process that runs the job the text comes from memory as it is told, elsewhere from the
database once it is saved.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from app.db.database import Database
from app.errors import DatabaseUnavailable
from app.jobs.store.delta_text import TextPosition
from app.jobs.streaming.buffer import LiveTextBuffer
from app.jobs.streaming.cursor import Position
from app.jobs.streaming.hub import StreamHub, Subscription
from app.jobs.tables import ENDED, delta_text, event, transcription
from app.kit.log import log

MOST_ROWS = 100  # in one look at the database
MOST_PIECES = 200
MOST_CHARACTERS = 64 << 10  # of text in one event
READ_INTERVAL_SECONDS = 2.0  # between two looks for rows that no run of this process writes

_event, _text, _row = event.c, delta_text.c, transcription.c
_JOB = sa.bindparam("job", type_=sa.String)
_EPOCH, _CHARS = (sa.bindparam(name, type_=sa.Integer) for name in ("epoch", "chars"))
_STATE = sa.select(_row.status, _row.erased_at, _row.event_count).where(_row.id == _JOB)
_ROWS = (
    sa.select(_event.seq, _event.type, _event.data, _event.epoch, _event.delta_chars)
    .where(_event.transcription_id == _JOB, _event.seq > sa.bindparam("seq"))
    .order_by(_event.seq)
    .limit(MOST_ROWS)
)
_PIECES = (
    sa.select(_text.epoch, _text.start, _text.text)
    .where(
        _text.transcription_id == _JOB,
        sa.or_(
            _text.epoch > _EPOCH,
            sa.and_(_text.epoch == _EPOCH, _text.start + sa.func.length(_text.text) > _CHARS),
        ),
    )
    .order_by(_text.epoch, _text.start)
    .limit(MOST_PIECES)
)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A numbered event."""

    seq: int
    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text that was told, up to a place."""

    place: TextPosition
    text: str


Item = StoredEvent | TextDelta


@dataclass(slots=True)
class EventBatch:
    """What one look at the database found behind a position, in order."""

    at: Position
    items: list[Item] = field(default_factory=list)
    is_all: bool = True
    has_ended: bool = False
    is_erased: bool = False


def read_events(tx: sa.Connection, job_id: str, at: Position) -> EventBatch:
    """Return what stands behind a position, on one snapshot; not all of it, where it is much."""
    state = tx.execute(_STATE, {"job": job_id}).one_or_none()
    if state is None or state.erased_at is not None:
        return EventBatch(at, has_ended=True, is_erased=True)
    rows = tx.execute(_ROWS, {"job": job_id, "seq": at.seq}).all()
    where = {"job": job_id, "epoch": at.place[0], "chars": at.place[1]}
    pieces = tx.execute(_PIECES, where).all()
    found = merged(rows, pieces, at, last=state.event_count)
    found.has_ended = found.is_all and state.status in ENDED
    return found


def merged(
    rows: Sequence[Any],
    pieces: Sequence[Any],
    at: Position,
    *,
    last: int = 0,
    most_rows: int = MOST_ROWS,
    most_pieces: int = MOST_PIECES,
) -> EventBatch:
    """Put rows where they stand in the text. Pure.

    Where there may be more of either, what stands behind the last of them is left for later. An
    end before the job's `last` row is passed over: a retry has taken it back.
    """
    seq, text = at.seq, _Text(pieces, at.place)
    rows_are_all, text_is_all = len(rows) < most_rows, len(pieces) < most_pieces
    items: list[Item] = []
    for row in rows:
        place = (row.epoch, row.delta_chars)
        if not text_is_all and place > text.end:
            items += text.upto(text.end)
            break
        items += text.upto(place)
        if row.type not in ENDED or row.seq >= last:
            items.append(StoredEvent(row.seq, row.type, row.data))
        seq = row.seq
    else:
        if rows_are_all:
            items += text.upto(text.end)
    return EventBatch(Position(seq, text.place), items, is_all=rows_are_all and text_is_all)


class _Text:
    """Saved text, handed out in order."""

    def __init__(self, pieces: Sequence[Any], place: TextPosition) -> None:
        self.place = place
        last = pieces[-1] if pieces else None
        self.end: TextPosition = (last.epoch, last.start + len(last.text)) if last else place
        self._pieces = pieces
        self._next = 0

    def upto(self, place: TextPosition) -> Iterator[TextDelta]:
        """Yield the text up to a place, joined as far as it is of one run."""
        parts: list[str] = []
        while self._next < len(self._pieces):
            piece = self._pieces[self._next]
            if (piece.epoch, piece.start) >= place:
                break
            if parts and piece.epoch != self.place[0]:
                yield TextDelta(self.place, "".join(parts))
                parts = []
            end = piece.start + len(piece.text)
            stop = min(end, place[1]) if piece.epoch == place[0] else end
            begin = piece.start
            if piece.epoch == self.place[0]:
                begin = max(begin, self.place[1])
            if begin < stop:
                parts.append(piece.text[begin - piece.start : stop - piece.start])
                self.place = (piece.epoch, stop)
            if stop < end:
                break
            self._next += 1
        if parts:
            yield TextDelta(self.place, "".join(parts))
        self.place = max(self.place, place)


class EventReader:
    """One reader of one job. `has_ended`: there is nothing more to come."""

    def __init__(
        self,
        db: Database,
        board: StreamHub,
        job_id: str,
        at: Position,
        *,
        news: Subscription,
        poll_seconds: float,
    ) -> None:
        self.has_ended = self.is_erased = False
        self._db, self._board, self._job_id, self._at = db, board, job_id, at
        self._news, self._is_shared = news, db.is_shared
        self._poll_seconds = poll_seconds
        self._version: tuple[int, int] | None = None  # epoch and version of what was looked at
        self._looked_at = 0.0

    @property
    def is_closing(self) -> bool:
        """Whether this process ends, and the reader has to go on with another one."""
        return self._board.is_closing

    async def next(self, patience: float) -> Sequence[Item]:
        """Return what comes next; nothing where that takes longer than `patience` seconds."""
        now = asyncio.get_running_loop().time
        until = now() + patience
        while not self.is_closing:
            self._news.clear()
            items = await self._read(now())
            left = until - now()
            if items or self.has_ended or left <= 0:
                return items
            is_live = self._board.running(self._job_id) is not None
            pause = left if is_live and not self._is_shared else READ_INTERVAL_SECONDS
            pause = min(left, pause if is_live else self._poll_seconds)
            await self._news.wait(pause)
        return ()

    async def _read(self, now: float) -> Sequence[Item]:
        told = self._board.running(self._job_id)
        # What may be read is taken before the rows are: rows written since stand behind it.
        version = None if told is None else (told.epoch, told.version)
        end = 0 if told is None else told.visible
        items: list[Item] = []
        if (
            version is None
            or version != self._version
            or (self._is_shared and now - self._looked_at >= READ_INTERVAL_SECONDS)
        ):
            if not await self._look(items):
                return items
            self._version, self._looked_at = version, now
        if told is not None and not self.has_ended:
            self._hear(told, end, items)
        return items

    async def _look(self, items: list[Item]) -> bool:
        """Read the database; tell whether all that it holds is read."""
        try:
            found = await self._db.read(read_events, self._job_id, self._at)
        except DatabaseUnavailable:
            log.warning("events.database_unavailable", job=self._job_id)
            return False
        self._at = found.at
        items += found.items
        self.has_ended, self.is_erased = found.has_ended, found.is_erased
        return found.is_all

    def _hear(self, told: LiveTextBuffer, end: int, items: list[Item]) -> None:
        """Take what is told in this process and not saved yet."""
        epoch, chars = self._at.place
        if epoch > told.epoch:
            return  # a run that was overtaken
        start = chars if epoch == told.epoch else 0
        end = min(end, start + MOST_CHARACTERS)
        if start < end:
            items.append(TextDelta((told.epoch, end), told.text(start, end)))
            self._at = Position(self._at.seq, (told.epoch, end))
