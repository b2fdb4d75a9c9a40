"""The reader of event streams, compared with the standard's examples and a slow second reader.

Covers: app.net.http.event_stream
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.net.http.event_stream import EventStreamReader, StreamEvent, StreamTooLargeError


def read(*chunks: bytes, **limits: int) -> list[StreamEvent]:
    reader = EventStreamReader(**limits)
    return [event for chunk in chunks for event in reader.feed(chunk)]


def data_of(*chunks: bytes) -> list[str]:
    return [event.data.decode() for event in read(*chunks)]


def test_the_examples_of_the_standard() -> None:
    assert data_of(b"data: YHOO\ndata: +2\ndata: 10\n\n") == ["YHOO\n+2\n10"]
    stream = b": test\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event"
    assert [(one.data, one.id) for one in read(stream)] == [
        (b"first event", "1"),
        (b"second event", ""),
    ]
    assert data_of(b"data\n\ndata\ndata\n\ndata:") == ["", "\n"]
    assert data_of(b"data:test\n\ndata: test\n\n") == ["test", "test"]


def test_fields_comments_and_the_byte_order_mark() -> None:
    stream = "\ufeffevent:result\r\n:HTTP_STATUS/200\rid:7\ndata:{}\nretry: 10\nodd: x\n\n"
    (event,) = read(stream.encode())
    assert event == StreamEvent("result", b"{}", "7", "HTTP_STATUS/200")
    assert data_of("\ufeffdata: a\n\n\ufeffdata: b\n\n".encode()) == ["a"]
    assert [one.id for one in read(b"id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n")] == ["1", "1"]
    reader = EventStreamReader()
    list(reader.feed(b"retry: 250\nretry: x\nretry: -1\n\n"))
    assert reader.retry == 250


def test_an_event_without_data_is_none_and_its_type_is_forgotten() -> None:
    assert [one.type for one in read(b"event: a\n\ndata: x\n\n")] == ["message"]


def test_lines_and_events_are_bounded() -> None:
    assert data_of(b"data:" + b"a" * 15 + b"\n\n") == ["a" * 15]
    with pytest.raises(StreamTooLargeError):
        read(b"data:" + b"a" * 16 + b"\n\n", max_line=20)
    with pytest.raises(StreamTooLargeError):
        read(*[b"a"] * 30, max_line=20)
    with pytest.raises(StreamTooLargeError):
        read(b"data:aaaa\n" * 5, max_event=20)


PIECES = st.sampled_from(
    [
        "data",
        "event",
        "id",
        "retry",
        ":",
        " ",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "x",
        "世",
        "\ufeff",
        "12",
    ]
)


@given(st.lists(PIECES, max_size=40), st.data())
def test_cuts_change_nothing(pieces: list[str], data: st.DataObject) -> None:
    raw = "".join(pieces).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    ends = [*cuts, len(raw)]
    chunks = [raw[a:b] for a, b in zip([0, *cuts], ends, strict=True)]
    assert read(*chunks) == read(*(bytes([one]) for one in raw)) == reference(raw)


@pytest.mark.parametrize("newline", [b"\n", b"\r", b"\r\n"])
def test_is_between_events_does_not_depend_on_the_cut(newline: bytes) -> None:
    raw = b"\xef\xbb\xbfid:1\ndata:{}\n\n".replace(b"\n", newline)
    for cut in range(len(raw) + 1):
        reader = EventStreamReader()
        reader.feed(raw[:cut])
        reader.feed(raw[cut:])
        reader.feed(b"")
        assert reader.is_between_events
        reader.feed(b"d")
        assert not reader.is_between_events


def reference(raw: bytes) -> list[StreamEvent]:
    """Read a complete stream in a simple way."""
    text = raw.decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    found, data, kind, comment, last = [], [], "", "", ""
    for line in text.split("\n")[:-1]:
        name, _, value = line.partition(":")
        value = value[1:] if value[:1] == " " else value
        if not line:
            if data:
                found.append(
                    StreamEvent(kind or "message", "\n".join(data).encode(), last, comment)
                )
            data, kind, comment = [], "", ""
        elif name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id":
            last = value
        elif not name:
            comment = value
    return found
