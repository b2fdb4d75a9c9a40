"""One answer read from bytes, with every division into chunks and every end.

Covers: app.net.http.answer_reader
"""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.net.http.answer_reader import AnswerReader, ReadError
from app.net.http.exchange import Answer, Fault

MAX_BYTES = 1000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
LENGTH = HEAD + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = (
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=1\r\nllo\r\n0\r\nX-Trailer: a\r\n\r\n"
)
UNTIL_CLOSE = HEAD + b"Connection: close\r\n\r\nhello"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
ERROR = b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Length: 90\r\n\r\nhello"
WHOLE = {
    "length": LENGTH,
    "chunked": CHUNKED,
    "interim": INTERIM + LENGTH,
    "no body": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "closing": HEAD + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello",
}


def read(data: bytes, cuts: list[int] | None = None, **options: object) -> AnswerReader:
    reader = AnswerReader(MAX_BYTES, **options)  # type: ignore[arg-type]
    edges = [0, *sorted(cuts or []), len(data)]
    for start, end in itertools.pairwise(edges):
        if start < end:
            reader.feed(data[start:end])
    return reader


def feed_again_and_again(reader: AnswerReader, piece: bytes) -> None:
    for _ in range(2000):
        reader.feed(piece)


@pytest.mark.parametrize("name", WHOLE)
def test_an_answer_is_the_same_however_it_is_cut(name: str) -> None:
    data = WHOLE[name]
    whole = read(data)
    assert whole.is_complete
    for cut in range(len(data)):
        reader = read(data, [cut])
        assert reader.is_complete
        assert reader.answer == whole.answer
        assert reader.keeps_connection is whole.keeps_connection


@pytest.mark.parametrize("name", WHOLE)
def test_a_truncated_answer_is_an_error(name: str) -> None:
    data = WHOLE[name]
    for end in range(len(data)):
        reader = read(data[:end])
        assert not reader.is_complete
        with pytest.raises(ReadError) as caught:
            reader.end()
        assert caught.value.fault is Fault.BROKEN


def test_the_parts_of_an_answer() -> None:
    answer = read(INTERIM + CHUNKED).answer
    assert answer == Answer(
        200, {"content-type": "text/plain", "transfer-encoding": "chunked"}, b"hello"
    )
    assert answer.has_an_end


def test_headers_of_the_same_name_are_joined() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n"
    assert read(head).answer.headers["x-a"] == "1, 2"


def test_an_answer_without_framing_ends_with_the_connection() -> None:
    for end in range(len(UNTIL_CLOSE)):
        reader = read(UNTIL_CLOSE[:end])
        if end < UNTIL_CLOSE.index(b"\r\n\r\n") + 4:
            with pytest.raises(ReadError):
                reader.end()
        else:
            reader.end()
            assert reader.answer.body == UNTIL_CLOSE[:end].partition(b"\r\n\r\n")[2]
            assert not reader.keeps_connection
            assert not reader.answer.has_an_end
    lost = read(UNTIL_CLOSE)
    with pytest.raises(ReadError):
        lost.cut("reset")


def test_an_error_is_enough_without_the_rest_of_its_body() -> None:
    for end in range(ERROR.index(b"\r\n\r\n") + 4, len(ERROR)):
        for ending in ("end", "cut"):
            reader = read(ERROR[:end])
            getattr(reader, ending)(*["reset"] * (ending == "cut"))
            assert (reader.answer.status, reader.answer.headers["retry-after"]) == (429, "7")
            assert not reader.keeps_connection


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
    ],
)
def test_a_connection_is_kept_only_if_the_server_keeps_it(head: bytes, *, keeps: bool) -> None:
    assert read(head + b"Content-Length: 0\r\n\r\n").keeps_connection is keeps


@pytest.mark.parametrize("excess", [LENGTH, b"H", b"garbage", INTERIM])
def test_bytes_after_an_answer_end_the_use_of_its_connection(excess: bytes) -> None:
    for data in (LENGTH, WHOLE["closing"]):
        reader = read(data + excess)
        assert (reader.answer.status, reader.answer.body) == (200, b"hello")
        assert not reader.keeps_connection
        reader = read(data)
        reader.feed(excess)
        assert reader.answer.body == b"hello"
        assert not reader.keeps_connection


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01 nothing like it\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
    ],
)
def test_bytes_that_are_not_http_are_an_error(data: bytes) -> None:
    with pytest.raises(ReadError) as caught:
        read(data).end()
    assert caught.value.fault is Fault.BROKEN


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_any_bytes_are_an_answer_or_an_error(tail: bytes, cuts: list[int]) -> None:
    try:
        reader = read(HEAD[: cuts[0] if cuts else 0] + tail, [c for c in cuts if c < len(tail)])
        reader.end()
    except ReadError:
        return
    assert reader.answer.status


@pytest.mark.parametrize("framing", [b"Content-Length: 2000", b"Transfer-Encoding: chunked"])
def test_a_body_above_the_limit_is_an_error(framing: bytes) -> None:
    size = b"7d0\r\n" if b"chunked" in framing else b""
    with pytest.raises(ReadError) as caught:
        read(HEAD + framing + b"\r\n\r\n" + size + b"x" * (MAX_BYTES + 1))
    assert caught.value.fault is Fault.TOO_LARGE


@pytest.mark.parametrize(
    "piece", [b"X-A: " + b"a" * 1000 + b"\r\n", b"a" * 1000, b"X: " + b"a" * 1000]
)
def test_endless_headers_are_an_error(piece: bytes) -> None:
    reader = read(b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(ReadError):
        feed_again_and_again(reader, piece)


def test_endless_interim_answers_and_trailers_are_an_error() -> None:
    for begin, piece in [
        (b"", INTERIM),
        (CHUNKED.partition(b"\r\n0\r\n")[0] + b"\r\n0\r\n", b"X-A: " + b"a" * 1000 + b"\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 1000),
    ]:
        reader = read(begin)
        with pytest.raises(ReadError):
            feed_again_and_again(reader, piece)


def test_a_stream_of_tiny_chunks_is_no_error() -> None:
    reader = AnswerReader(1 << 20)
    reader.feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(30_000):
        reader.feed(b"1\r\na\r\n")
    reader.feed(b"0\r\n\r\n")
    assert len(reader.answer.body) == 30_000


def test_a_stream_is_passed_on_by_chunks_and_its_rest_is_dropped() -> None:
    taken: list[bytes] = []

    def take(chunk: bytes) -> bool:
        taken.append(chunk)
        return chunk == b"llo"

    for cut in range(len(CHUNKED)):
        taken.clear()
        reader = AnswerReader(MAX_BYTES, take)
        reader.feed(CHUNKED[:cut])
        reader.feed(CHUNKED[cut:])
        assert b"".join(taken) == b"hello"
        assert reader.answer.was_streamed
        assert reader.answer.body == b""
    reader = AnswerReader(MAX_BYTES, take)
    reader.feed(CHUNKED[: CHUNKED.index(b"llo") + 3])
    assert (reader.is_enough, reader.is_complete) == (True, False)
    taken.clear()
    reader.feed(b"\r\n4\r\nmore\r\n0\r\n\r\n")
    assert (taken, reader.is_complete, reader.keeps_connection) == ([], True, True)


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 500 Oops\r\n", b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"]
)
def test_an_error_or_json_is_no_stream(head: bytes) -> None:
    taken: list[bytes] = []
    reader = AnswerReader(MAX_BYTES, lambda chunk: bool(taken.append(chunk)))
    reader.feed(head + b"Content-Length: 2\r\n\r\n{}")
    assert (reader.answer.body, reader.answer.was_streamed, taken) == (b"{}", False, [])


def test_an_error_of_take_is_raised() -> None:
    def take(_chunk: bytes) -> bool:
        raise LookupError("malformed")

    reader = AnswerReader(MAX_BYTES, take)
    with pytest.raises(LookupError):
        reader.feed(CHUNKED)
