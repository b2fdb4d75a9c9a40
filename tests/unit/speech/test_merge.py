"""Parts are merged into one transcript, with correct spaces, times and coverage.

Covers: app.speech.merge, app.speech.transcript
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.speech.merge import PartText, join_texts, merge_parts, separator_between
from app.speech.transcript import Segment, Word


@pytest.mark.parametrize(
    ("left", "right", "whole"),
    [
        ("hello", "world", "hello world"),
        ("你好", "世界", "你好世界"),
        ("今日は", "カレー", "今日はカレー"),
        ("สวัสดี", "ครับ", "สวัสดีครับ"),
        ("안녕", "하세요", "안녕 하세요"),
        ("我用", "Python", "我用 Python"),
        ("你好。", "Hello", "你好。Hello"),
        ("hello ", " world", "hello world"),
        ("hello", ", world", "hello, world"),
        ("", "alone", "alone"),
        ("alone", "  ", "alone"),
    ],
)
def test_pieces_are_joined_with_a_space_where_their_scripts_use_one(
    left: str, right: str, whole: str
) -> None:
    assert join_texts((left, right)) == whole


@given(st.lists(st.text(alphabet="ab 你好。,", max_size=6)))
def test_join_never_doubles_spaces_or_loses_characters(pieces: list[str]) -> None:
    tidy = [" ".join(piece.split()) for piece in pieces]
    whole = join_texts(tidy)
    assert "  " not in whole
    assert whole == whole.strip()
    assert "".join(whole.split()) == "".join("".join(tidy).split())


@given(st.text(max_size=3), st.text(max_size=3))
def test_the_separator_is_one_space_or_nothing(left: str, right: str) -> None:
    assert separator_between(left, right) in ("", " ")


def test_times_count_from_the_start_of_the_audio_and_stay_inside_the_part() -> None:
    said = Segment(
        start=1.0,
        end=9.0,
        text=" two ",
        timing="upstream",
        words=(Word(start=1.0, end=9.0, text="two"),),
    )
    whole = merge_parts([PartText(10_000, 15_000, "two", "en", "calm", (said,), 4_000)])
    (segment,) = whole.segments
    assert (segment.start, segment.end, segment.text) == (11.0, 15.0, "two")
    assert (segment.words[0].start, segment.words[0].end) == (11.0, 15.0)
    assert (segment.timing, segment.language, segment.emotion) == ("upstream", "en", "calm")


def test_a_part_without_times_is_one_estimated_segment() -> None:
    whole = merge_parts([PartText(500, 2_500, "hi", "en"), PartText(2_500, 3_000, "  ")])
    assert whole.segments == (
        Segment(start=0.5, end=2.5, text="hi", timing="estimated", language="en"),
    )


def test_parts_are_merged_in_the_order_of_time() -> None:
    assert merge_parts([PartText(9, 10, "b"), PartText(0, 9, "a")]).text == "a b"


def test_the_language_is_that_of_most_speech_and_of_equals_the_earliest() -> None:
    parts = [
        PartText(0, 1, "a", "en", "sad", speech_ms=2_000),
        PartText(1, 2, "b", "zh", "calm", speech_ms=1_500),
        PartText(2, 3, "c", "zh", "calm", speech_ms=1_500),
    ]
    assert (merge_parts(parts).language, merge_parts(parts).emotion) == ("zh", "calm")
    assert merge_parts([parts[0], PartText(1, 2, "b", "zh", speech_ms=2_000)]).language == "en"
    assert merge_parts([PartText(0, 1)]).language is None


def test_coverage_is_the_share_of_speech_in_finished_parts() -> None:
    parts = [
        PartText(0, 1, "a", speech_ms=3_000),
        PartText(1, 2, "lost", speech_ms=1_000, done=False),
    ]
    whole = merge_parts(parts)
    assert whole.coverage == 0.75
    assert whole.text == "a"
    assert len(whole.segments) == 1


def test_audio_without_speech_has_full_coverage() -> None:
    assert merge_parts([]).coverage == 1.0
    assert merge_parts([PartText(0, 1, done=False)]).coverage == 1.0
