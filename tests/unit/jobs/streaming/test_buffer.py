"""Told text is the transcript's, whatever the order in which parts are heard; and its order."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.jobs.store.delta_text import UnsavedText
from app.jobs.streaming.buffer import LiveTextBuffer
from app.jobs.streaming.cursor import START, Position
from app.jobs.streaming.reader import StoredEvent, TextDelta, merged
from app.speech.merge import join

pytestmark = pytest.mark.anyio
TEXTS = st.lists(st.text(alphabet="ab 世。.\n", max_size=12), min_size=1, max_size=5)


class Reader:
    """A telling, and what its readers would make of it."""

    def __init__(self) -> None:
        self.void_until = 0
        self.resets = 0
        self.told = LiveTextBuffer(1, lambda: None, self._reset)

    async def _reset(self) -> None:
        async with self.told.holding_back():
            self.void_until = self.told.pledge.end
            self.resets += 1

    @property
    def text(self) -> str:
        return self.told.text(0, self.told.visible)

    async def assert_closed(self, texts: Sequence[str], first: int, end: int) -> None:
        """Close parts at once: each row stands behind its text, and none is read past."""
        async with self.told.closing_parts([(i, texts[i]) for i in range(first, end)]) as ends:
            assert self.text == join(texts[: first + 1])
            whole = self.told.text(0, self.told.pledge.end)
            assert whole == join(texts[:end])
            assert [whole[:one] for one in ends] == [
                join(texts[: i + 1]) for i in range(first, end)
            ]
        assert self.text.startswith(whole)


@given(TEXTS, st.data())
def test_parts_heard_at_once_are_told_as_one_text(texts: list[str], data: st.DataObject) -> None:
    """Parts are begun in order, told in any, and closed in order: what is told is the text."""

    async def trial() -> None:
        reader = Reader()
        pieces = {index: list(_cut(text, data)) for index, text in enumerate(texts)}
        begun = closed = 0
        while closed < len(texts):
            moves = [("tell", i) for i in range(closed, begun) if pieces[i]]
            moves += [("begin", begun)] if begun < len(texts) else []
            whole = next((i for i in range(closed, begun) if pieces[i]), begun)
            moves += [("close", last) for last in range(closed, whole)]
            move, index = data.draw(st.sampled_from(moves))
            if move == "begin":
                reader.told.part(index)
                begun += 1
            elif move == "tell":
                reader.told.part(index)(pieces[index].pop(0))
            else:
                await reader.assert_closed(texts, closed, index + 1)
                closed = index + 1
            assert join(texts).startswith(reader.text)
        assert reader.text == join(texts)
        assert reader.resets == 0

    asyncio.run(trial())


def _cut(text: str, data: st.DataObject) -> Sequence[str]:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=3)))
    ends = [*cuts, len(text)]
    return [text[a:b] for a, b in zip([0, *cuts], ends, strict=True)]


async def test_only_the_earliest_part_is_told_and_the_next_one_in_its_turn() -> None:
    reader = Reader()
    first, second = reader.told.part(0), reader.told.part(1)
    second("later")
    first("now")
    assert reader.text == "now"
    async with reader.told.closing_parts([(0, "now then")]):
        second(" on")
        assert reader.text == "now then"  # the row of the first is not written yet
    assert reader.text == "now then later on"


async def test_a_failed_call_is_forgotten_and_other_words_are_void_first() -> None:
    reader = Reader()
    sink = reader.told.part(0)
    sink("wrong ")
    assert sink.was_published
    sink.discard()
    assert not sink.was_published
    sink("right ")
    async with reader.told.closing_parts([(0, "rather")]):
        pass
    assert reader.resets == 1
    assert reader.text[reader.void_until :] == "rather"


async def test_parts_of_an_earlier_run_only_decide_the_space_before_the_next() -> None:
    reader = Reader()
    reader.told.skip_known(" Before. ")
    reader.told.skip_known("")
    reader.told.part(2)("after")
    assert reader.text == " after"


async def test_nobody_reads_past_a_row_that_is_being_written() -> None:
    reader = Reader()
    sink = reader.told.part(0)
    sink("abc")
    async with reader.told.holding_back():
        sink("def")
        assert reader.told.visible == 3
        assert reader.told.pledge == UnsavedText(0, "abc")
        second = asyncio.create_task(_write(reader))
        await asyncio.sleep(0)
        sink("ghi")
        assert reader.told.visible == 3
    assert await second == UnsavedText(3, "def")
    assert reader.told.visible == 9
    assert reader.told.version == 2


async def _write(reader: Reader) -> UnsavedText:
    async with reader.told.holding_back():
        return reader.told.pledge


async def test_what_is_saved_is_told_once_and_stays_readable() -> None:
    reader, saved = Reader(), []

    async def write(pledge: UnsavedText) -> None:
        saved.append(pledge)

    sink = reader.told.part(0)
    for number in range(100):
        sink(f"{number},")
        if number % 7 == 0:
            assert await reader.told.save(write)
    assert not await reader.told.save(write) or reader.told.has_unsaved
    whole = "".join(f"{number}," for number in range(100))
    assert "".join(one.text for one in saved) == whole
    assert all(reader.told.text(at, at + 5) == whole[at : at + 5] for at in range(len(whole)))
    assert not reader.told.has_unsaved.is_set()


# ── one order of rows and text ──────────────────────────────────────────────────────────────


@given(st.data())
def test_a_story_reads_alike_from_everywhere(data: st.DataObject) -> None:
    """Whatever is drawn of rows and text, and however little fits into one look."""
    rows, pieces, scenario = _story(data)
    limits = {
        "most_rows": data.draw(st.integers(1, 4)),
        "most_pieces": data.draw(st.integers(1, 4)),
    }
    whole = list(_read(rows, pieces, START, limits))
    assert [one.seq for one in whole if isinstance(one, StoredEvent)] == [row.seq for row in rows]
    assert _flat(whole) == scenario
    at = data.draw(st.integers(0, len(whole)))
    position = START
    for item in whole[:at]:
        is_row = isinstance(item, StoredEvent)
        place = (rows[item.seq - 1].epoch, rows[item.seq - 1].delta_chars) if is_row else item.place
        position = Position(item.seq if is_row else position.seq, place)
    rest = list(_read(rows, pieces, position, limits))
    assert _flat([*whole[:at], *rest]) == scenario


def _story(data: st.DataObject) -> tuple[list[Any], list[Any], list[str]]:
    rows: list[Any] = []
    pieces: list[Any] = []
    scenario: list[str] = []
    for epoch in range(1, data.draw(st.integers(1, 3)) + 1):
        told = 0
        for what in data.draw(st.lists(st.sampled_from(["row", "ab", "c", "def"]), max_size=6)):
            if what == "row":
                seq = len(rows) + 1
                rows.append(SimpleNamespace(seq=seq, type="t", data={}, epoch=epoch, delta_chars=told))  # fmt: skip  # noqa: E501
                scenario.append(f"<{seq}>")
            else:
                pieces.append(SimpleNamespace(epoch=epoch, start=told, text=what))
                told += len(what)
                scenario += list(what)
    return rows, pieces, scenario


def _read(rows: list[Any], pieces: list[Any], at: Position, limits: dict[str, int]) -> Any:
    while True:
        epoch, chars = at.place
        more = [row for row in rows if row.seq > at.seq][: limits["most_rows"]]
        left = [
            one
            for one in pieces
            if one.epoch > epoch or (one.epoch == epoch and one.start + len(one.text) > chars)
        ][: limits["most_pieces"]]
        found = merged(more, left, at, **limits)
        yield from found.items
        if found.is_all:
            return
        assert found.at != at
        at = found.at


def _flat(items: list[StoredEvent | TextDelta]) -> list[str]:
    return [
        letter
        for one in items
        for letter in ([f"<{one.seq}>"] if isinstance(one, StoredEvent) else one.text)
    ]
