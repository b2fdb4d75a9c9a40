"""Live text is the transcript's text in any order of parts, and reads alike from everywhere.

Covers: app.jobs.streaming.buffer, app.jobs.streaming.log, app.jobs.streaming.stored_log,
app.jobs.store.live_text
"""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.jobs.store.events import DELTA, Event, delta
from app.jobs.store.live_text import UnstoredText
from app.jobs.streaming import log as live_logs
from app.jobs.streaming.buffer import LiveTextBuffer
from app.jobs.streaming.cursor import Position
from app.jobs.streaming.log import LiveLog, LogItem
from app.jobs.streaming.stored_log import unread_events
from app.speech.merge import join_texts

pytestmark = pytest.mark.anyio
TEXTS = st.lists(st.text(alphabet="ab 世。.\n", max_size=12), min_size=1, max_size=5)
ROW = Event("row", {})
FIRST = 1  # events of the job before its run


class Job:
    """A buffer of a run, and the events that it stores as the database would."""

    def __init__(self) -> None:
        self.stored: list[Event] = []
        self.buffer = LiveTextBuffer(LiveLog(FIRST), lambda: None, self._read, self._reset)

    async def _read(self, after: int) -> Sequence[Event]:
        return self.stored[after - FIRST :]

    async def _reset(self) -> None:
        async with self.buffer.holding_back():
            self.add(Event("reset", {}))

    def add(self, *events: Event) -> None:
        """Do what a fenced update does in a block that holds text back."""
        after, text = self.buffer.unstored
        is_first = after - FIRST == len(self.stored)
        added = [delta(text), *events] if text and is_first else events
        self.buffer.note_stored(FIRST + len(self.stored) + 1, added)
        self.stored += added

    async def add_row(self) -> None:
        async with self.buffer.holding_back():
            self.add(ROW)

    @property
    def live(self) -> list[LogItem]:
        return list(self.buffer.log.after(Position(FIRST)) or ())

    @property
    def text(self) -> str:
        return text_of(Event(item.type, item.data) for item in self.live)

    @property
    def stored_text(self) -> str:
        return text_of(self.stored)


def text_of(events: Any) -> str:
    """Return the text since the last reset."""
    text = ""
    for event in events:
        if event.type == DELTA:
            text += event.data["text"]
        elif event.type == "reset":
            text = ""
    return text


@given(TEXTS, st.data())
def test_parts_heard_at_once_are_one_text(texts: list[str], data: st.DataObject) -> None:
    """Parts begin in order, send text in any order, and are closed in order."""

    async def trial() -> None:
        job = Job()
        pieces = {index: list(_cut(text, data)) for index, text in enumerate(texts)}
        begun = closed = 0
        while closed < len(texts):
            moves = [("send", i) for i in range(closed, begun) if pieces[i]]
            moves += [("begin", begun)] if begun < len(texts) else []
            whole = next((i for i in range(closed, begun) if pieces[i]), begun)
            moves += [("close", last) for last in range(closed, whole)]
            move, index = data.draw(st.sampled_from(moves))
            if move == "begin":
                job.buffer.part(index)
                begun += 1
            elif move == "send":
                job.buffer.part(index)(pieces[index].pop(0))
            else:
                await _close(job, texts, closed, index + 1)
                closed = index + 1
            assert join_texts(texts).startswith(job.text)
            assert job.text.startswith(job.stored_text)
        assert job.text == job.stored_text == join_texts(texts)
        assert "reset" not in [event.type for event in job.stored]

    asyncio.run(trial())


async def _close(job: Job, texts: Sequence[str], first: int, end: int) -> None:
    """Close parts at once. No text of them is published before their rows are stored."""
    before = job.text
    async with job.buffer.closing_parts([(i, texts[i]) for i in range(first, end)]) as rests:
        segments = [Event("segment", {"index": index}) for index in range(first, end)]
        pairs = zip(rests, segments, strict=True)
        job.add(
            *(event for rest, one in pairs for event in ([delta(rest), one] if rest else [one]))
        )
        assert job.text == before
    assert job.text.startswith(join_texts(texts[:end]))
    shown = [job.stored[i] for i, event in enumerate(job.stored) if event.type == "segment"]
    assert [event.data["index"] for event in shown] == list(range(end))
    for index in range(first, end):
        at = job.stored.index(Event("segment", {"index": index}))
        assert text_of(job.stored[:at]) == join_texts(texts[: index + 1])


def _cut(text: str, data: st.DataObject) -> Sequence[str]:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=3)))
    ends = [*cuts, len(text)]
    return [text[a:b] for a, b in zip([0, *cuts], ends, strict=True)]


async def test_only_the_earliest_part_is_published_and_the_next_one_in_its_turn() -> None:
    job = Job()
    first, second = job.buffer.part(0), job.buffer.part(1)
    second("later")
    first("now")
    assert job.text == "now"
    async with job.buffer.closing_parts([(0, "now then")]) as (rest,):
        second(" on")
        job.add(delta(rest))
        assert job.text == "now"  # the row of the first is not written yet
    assert job.text == "now then later on"


async def test_a_failed_call_is_discarded_and_another_text_is_preceded_by_a_reset() -> None:
    job = Job()
    sink = job.buffer.part(0)
    sink("wrong ")
    assert sink.was_published
    sink.discard()
    assert not sink.was_published
    sink("right ")
    async with job.buffer.closing_parts([(0, "rather")]) as (rest,):
        job.add(delta(rest))
    assert [event.type for event in job.stored] == [DELTA, "reset", DELTA]
    assert job.text == job.stored_text == "rather"


async def test_parts_of_an_earlier_run_only_decide_the_space_before_the_next() -> None:
    job = Job()
    job.buffer.skip_known(" Before. ")
    job.buffer.skip_known("")
    job.buffer.part(2)("after")
    assert job.text == " after"


async def test_text_that_arrives_during_a_write_stands_behind_its_events() -> None:
    job = Job()
    sink = job.buffer.part(0)
    sink("abc")
    async with job.buffer.holding_back():
        sink("def")
        assert job.text == "abc"
        assert job.buffer.unstored == UnstoredText(FIRST, "abc")
        second = asyncio.create_task(job.add_row())
        await asyncio.sleep(0)
        sink("ghi")
        job.add(ROW)
        assert job.text == "abc"
    await second
    assert job.stored == [delta("abc"), ROW, delta("defghi"), ROW]
    assert [(one.seq, one.offset) for one in job.live] == [(1, 3), (3, 0), (3, 6), (5, 0)]


async def test_text_that_arrives_while_text_is_stored_is_published_at_once() -> None:
    job = Job()
    sink = job.buffer.part(0)
    sink("abc")
    async with job.buffer.storing():
        sink("de")
        assert job.text == "abcde"
        assert job.buffer.unstored == UnstoredText(FIRST, "abc")
        job.add()
    sink("f")
    assert job.stored == [delta("abc")]
    assert [(one.seq, one.offset) for one in job.live] == [(1, 3), (1, 5), (2, 3)]
    await job.add_row()
    assert job.stored == [delta("abc"), delta("def"), ROW]


@pytest.mark.parametrize("is_committed", [True, False])
async def test_a_write_of_unknown_outcome_is_looked_up_before_the_next(
    is_committed: bool,
) -> None:
    """Its caller was cancelled: the database alone knows whether the write was committed."""
    job = Job()
    sink = job.buffer.part(0)
    sink("abc")

    async def write() -> None:
        async with job.buffer.holding_back():
            sink("def")
            job.add(delta("!"), ROW)
            if not is_committed:
                job.stored.clear()
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await write()
    sink("ghi")
    assert job.text == "abc"  # where the rest belongs is not known yet
    await job.add_row()
    if is_committed:
        assert job.stored == [delta("abc"), delta("!"), ROW, delta("defghi"), ROW]
    else:
        assert job.stored == [delta("abcdefghi"), ROW]


# ── one log, in memory and in the database ──────────────────────────────────────────────────


@given(st.data())
def test_a_log_reads_alike_from_everywhere(data: st.DataObject) -> None:
    """From the end of any item, in memory or from the database or changing between them."""
    most = data.draw(st.sampled_from([1, 3, 512]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_logs, "MOST_ITEMS", most)
        job, seen = asyncio.run(_random_log(data))
        story = _flat([LogItem(*key, one.type, one.data) for key, one in _numbered(job.stored)])
        assert _flat(seen) == story
        cut = data.draw(st.integers(0, len(seen)))
        rest = _rest(job, Position(*_end(seen[:cut])), data)
    assert _flat([*seen[:cut], *rest]) == story


async def _random_log(data: st.DataObject) -> tuple[Job, list[LogItem]]:
    """Return a job whose text is stored in the end, and the items a live reader was given."""
    job, seen = Job(), list[LogItem]()

    def read() -> None:
        seen.extend(job.buffer.log.after(Position(*_end(seen))) or ())

    for step in data.draw(st.lists(st.sampled_from(["ab", "c", "def", "row", "rest", "store"]))):
        if step == "row":
            await job.add_row()
        elif step == "rest":
            async with job.buffer.holding_back():
                job.buffer.publish("held")
                job.add(delta("rest"), ROW)
        elif step == "store":
            async with job.buffer.storing():
                job.buffer.publish("on")
                read()
                job.add()
        else:
            job.buffer.publish(step)
        read()
    async with job.buffer.storing():
        job.add()
    return job, seen


def _rest(job: Job, at: Position, data: st.DataObject) -> list[LogItem]:
    """Read on, now and then from the other place; the log in memory may not reach so far back."""
    found: list[LogItem] = []
    while True:
        items = job.buffer.log.after(at) if data.draw(st.booleans()) else None
        if items:
            items = items[: data.draw(st.integers(1, len(items)))]
            at = Position(items[-1].seq, items[-1].offset)
        elif items is None:
            behind = job.stored[max(0, at.seq - FIRST) :][: data.draw(st.integers(1, 4))]
            rows = [
                SimpleNamespace(seq=at.seq + number, type=one.type, data=one.data)
                for number, one in enumerate(behind, 1)
            ]
            if not rows:
                return found
            read = unread_events(rows, at, last_seq=0)
            items, at = read.items, read.at
        found += items


def _numbered(events: Sequence[Event]) -> list[tuple[tuple[int, int], Event]]:
    return [((seq, 0), event) for seq, event in enumerate(events, FIRST + 1)]


def _end(items: Sequence[LogItem]) -> tuple[int, int]:
    return (items[-1].seq, items[-1].offset) if items else (FIRST, 0)


def _flat(items: Sequence[LogItem]) -> list[str]:
    return [
        letter
        for one in items
        for letter in (one.data["text"] if one.type == DELTA else [f"<{one.seq}>"])
    ]
