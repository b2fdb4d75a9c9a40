"""Cues are narrow, short and readable, hold the whole text and have its times.

Covers: app.speech.subtitles.cues, app.speech.subtitles.timed_text,
  app.speech.subtitles.reading_speed
"""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.speech.subtitles.cues import Cue, make_cues
from app.speech.transcript import Segment, Transcript, Word
from tests.support.subtitles import (
    COLUMNS,
    LINES,
    MOST_MS,
    TEXTS,
    all_said,
    bare,
    breaks,
    is_breach,
    one,
    said,
    transcripts,
    width,
)


def lines_of(made: list[Cue]) -> list[str]:
    return [line for cue in made for line in cue.lines]


def shown(made: list[Cue]) -> list[tuple[int, int, tuple[str, ...]]]:
    return [(cue.start, cue.end, cue.lines) for cue in made]


def spoken_evenly(text: str, seconds: float, **more: object) -> Transcript:
    """Return a text whose words have equal durations."""
    parts = text.split()
    step = seconds / len(parts)
    words = tuple(
        Word(start=i * step, end=(i + 1) * step, text=word) for i, word in enumerate(parts)
    )
    return one(text, 0, seconds, words=words, **more)


@given(transcripts())
def test_cues_hold_the_whole_text_and_nothing_else(transcript: Transcript) -> None:
    made = make_cues(transcript.segments)
    assert bare("".join(lines_of(made))) == all_said(transcript)


@given(transcripts(), st.one_of(st.none(), st.floats(0.5, 200)))
def test_cues_are_narrow_short_and_in_order(transcript: Transcript, seconds: float | None) -> None:
    made = make_cues(transcript.segments, seconds)
    end = max((segment.end for segment in transcript.segments), default=0) + 0.002
    for cue in made:
        assert 0 <= cue.start < cue.end <= round(1000 * (end if seconds is None else seconds))
        assert cue.end - cue.start <= MOST_MS
        assert 1 <= len(cue.lines) <= LINES
        for number, line in enumerate(cue.lines):
            assert line == line.strip() != ""
            assert width(line) + (2 if cue.starts_speaker and number == 0 else 0) <= COLUMNS
    assert all(a.start <= b.start for a, b in pairwise(made))
    assert all(a.end <= b.start for a, b in pairwise(made) if a.start < b.start)


@given(transcripts())
def test_no_line_begins_or_ends_with_a_forbidden_character(transcript: Transcript) -> None:
    for segment in transcript.segments:
        made = lines_of(make_cues([segment]))
        assert [b for b in breaks(segment.text, made) if is_breach(*b)] == []


@given(st.text(max_size=400), st.floats(0, 30))
def test_lines_of_any_text_are_narrow(text: str, seconds: float) -> None:
    made = make_cues(one(text, 1, 1 + seconds).segments)
    assert all(width(line) <= COLUMNS for line in lines_of(made))
    assert all(1 <= len(cue.lines) <= LINES for cue in made)


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_real_languages_are_broken_at_allowed_positions(language: str) -> None:
    text = TEXTS[language]
    made = make_cues(said(language).segments)
    assert len(made) > 1
    assert [b for b in breaks(text, lines_of(made)) if is_breach(*b)] == []
    assert all(width(line) <= COLUMNS for line in lines_of(made))


def test_korean_is_broken_at_spaces_only_and_arabic_keeps_its_order() -> None:
    for language in ("ko", "ar"):
        made = lines_of(make_cues(said(language).segments))
        assert " ".join(made) == TEXTS[language]


def test_thai_is_broken_between_words_if_the_engine_gives_them() -> None:
    words = [
        "วันนี้",
        "เรา",
        "จะ",
        "พูด",
        "ถึง",
        "เทคโนโลยี",
        "การ",
        "รู้จำ",
        "เสียง",
        "พูด",
        "ซึ่ง",
        "กำลัง",
        "เปลี่ยน",
        "แปลง",
        "ชีวิต",
        "ประจำวัน",
        "ของ",
        "เรา",
    ]
    timed = tuple(Word(start=i * 0.4, end=i * 0.4 + 0.4, text=w) for i, w in enumerate(words))
    made = lines_of(make_cues(one("".join(words), 0, 7.2, words=timed).segments))
    assert len(made) > 1
    edges = {len("".join(words[:count])) for count in range(len(words) + 1)}
    assert {len("".join(made[:count])) for count in range(len(made) + 1)} <= edges


def test_a_title_or_an_initial_does_not_end_a_sentence() -> None:
    text = "It was the opinion of the whole family that Mr. J. Dashwood was entirely in the right."
    made = lines_of(make_cues(one(text, 0, 7).segments))
    assert not any(line.endswith(("Mr.", "J.")) for line in made)


def test_a_long_text_is_divided_after_a_sentence_and_leaves_no_single_word() -> None:
    first = "One two three four five six seven eight nine ten eleven twelve."
    made = make_cues(one(f"{first} Thirteen fourteen fifteen sixteen seventeen.", 0, 8).segments)
    assert " ".join(made[0].lines) == first
    text = " ".join(["seven"] * 15)  # 89 columns: two cues of about as much, not of 83 and 5
    widths = [sum(map(len, cue.lines)) for cue in make_cues(one(text, 0, 10).segments)]
    assert len(widths) == 2
    assert max(widths) - min(widths) < 12


def test_two_lines_are_balanced_and_break_at_a_clause() -> None:
    (cue,) = make_cues(
        one("When the rain had stopped, they all went out to look at the sea.", 0, 5).segments
    )
    assert cue.lines == ("When the rain had stopped,", "they all went out to look at the sea.")
    (cue,) = make_cues(one("b" * 20 + " " + "c" * 20 + " " + "d" * 20, 0, 5).segments)
    assert [len(line) for line in cue.lines] == [20, 41]  # the same either way: the short one above


def test_wide_characters_count_two() -> None:
    (cue,) = make_cues(one("好" * 21 + "。" + "好" * 19, 0, 5).segments)
    assert cue.lines == ("好" * 20, "好。" + "好" * 19)


def test_a_cue_that_is_too_fast_is_shown_into_the_pause() -> None:
    text = "This sentence has exactly fifty-one characters, yes."
    (cue,) = make_cues(one(text, 1, 2).segments, seconds=60)
    assert (cue.start, cue.end) == (1000, 1000 + round(len(text) * 1000 / 17))
    han = "今天我们要聊的是人工智能的发展历史与未来"
    (cue,) = make_cues(one(han, 1, 2).segments, seconds=60)
    assert (cue.start, cue.end) == (1000, 1000 + round(len(han) * 1000 / 9))


def test_a_short_cue_has_the_minimum_time_but_ends_before_the_next_and_with_the_audio() -> None:
    yes = Segment(start=1, end=1.2, text="Yes.", speaker="0")
    assert shown(make_cues([yes], 60)) == [(1000, 1833, ("Yes.",))]
    assert shown(make_cues([yes], 1.5)) == [(1000, 1500, ("Yes.",))]
    other = Segment(start=1.7, end=9, text="No, this is not what I had in mind.", speaker="1")
    assert [(cue.start, cue.end) for cue in make_cues([yes, other], 60)] == [
        (1000, 1700),
        (1700, 8700),
    ]


def test_a_slow_cue_ends_with_its_speech() -> None:
    (cue,) = make_cues(one("Slow enough.", 1, 4).segments, seconds=60)
    assert (cue.start, cue.end) == (1000, 4000)


def test_neighbours_that_are_too_fast_become_one_cue() -> None:
    quick = [
        Segment(start=0, end=0.3, text="Yes."),
        Segment(start=0.3, end=2.5, text="That is so."),
        Segment(start=9, end=12, text="Later."),
    ]
    assert shown(make_cues(quick)) == [(0, 2500, ("Yes. That is so.",)), (9000, 12000, ("Later.",))]


def test_no_cue_is_shown_over_a_gap() -> None:
    around = [
        Segment(start=0, end=5, text="Before the part without a transcript."),
        Segment(start=5, end=65, text="   "),
        Segment(start=65, end=70, text="And what came after it."),
    ]
    made = make_cues(around, 80)
    assert [(cue.start, cue.end) for cue in made] == [(0, 5000), (65000, 70000)]
    words = (Word(start=0, end=1, text="one"), Word(start=5, end=6, text="two"))
    assert shown(make_cues(one("one two", 0, 6, words=words).segments)) == [
        (0, 1000, ("one",)),
        (5000, 6000, ("two",)),
    ]


def test_another_speaker_starts_a_cue() -> None:
    talk = [
        Segment(start=0, end=0.4, text="Ready?", speaker="0"),
        Segment(start=0.4, end=0.8, text="Yes.", speaker="1"),
        Segment(start=0.8, end=2.8, text="Then we go.", speaker="1"),
    ]
    made = make_cues(talk)
    assert [(cue.lines, cue.speaker, cue.starts_speaker) for cue in made] == [
        (("Ready?",), "0", True),
        (("Yes. Then we go.",), "1", True),
    ]
    (alone,) = make_cues([talk[0]])
    assert (alone.speaker, alone.starts_speaker) == ("0", False)


def test_words_may_have_other_speakers_than_their_segment() -> None:
    words = (
        Word(start=0, end=1, text="Ready?", speaker="a"),
        Word(start=1, end=2, text="Yes", speaker="b"),
    )
    made = make_cues(one("Ready? Yes.", 0, 2, words=words).segments)
    assert [(cue.lines, cue.speaker) for cue in made] == [(("Ready?",), "a"), (("Yes.",), "b")]


def test_two_voices_at_once_do_not_shorten_each_other() -> None:
    both = [
        Segment(start=0, end=5, text="The left one speaks for five seconds.", channel=0),
        Segment(start=1, end=5, text="So does the right one, a little later.", channel=1),
        Segment(start=5, end=8, text="And on it goes for a while.", channel=0),
    ]
    assert [(cue.start, cue.end) for cue in make_cues(both)] == [
        (0, 5000),
        (1000, 5000),
        (5000, 8000),
    ]


def test_words_without_punctuation_give_the_times_of_the_cuts() -> None:
    words = tuple(Word(start=i, end=i + 0.5, text=f"w{i}") for i in range(10))
    text = ", ".join(word.text for word in words) + "."
    made = make_cues(one(text, 0, 9.5, words=words).segments)
    assert [(cue.start, cue.end) for cue in made] == [(0, 4500), (5000, 9500)]


def test_times_of_words_that_do_not_spell_the_text_are_not_used() -> None:
    words = (Word(start=90, end=91, text="other"),)
    (cue,) = make_cues(one("this", 0, 1, words=words).segments)
    assert (cue.start, cue.end) == (0, 1000)


def test_cues_are_in_order_even_if_times_of_words_run_backwards() -> None:
    text = " ".join(f"word{i:02}" for i in range(60))
    words = tuple(
        Word(start=30 - i / 2, end=30 - i / 2, text=word) for i, word in enumerate(text.split())
    )
    made = make_cues(one(text, 0, 30, words=words).segments)
    assert bare("".join(lines_of(made))) == bare(text)
    assert all(a.start <= b.start for a, b in pairwise(made))


def test_a_pause_between_words_is_a_good_place_to_cut() -> None:
    parts = ("alpha bravo carol delta " * 5).split()
    words, at = [], 0.0
    for number, part in enumerate(parts):
        at += 0.6 if number == 9 else 0.0
        words.append(Word(start=at, end=at + 0.3, text=part))
        at += 0.3
    made = make_cues(one(" ".join(parts), 0, at, words=tuple(words)).segments)
    assert len(" ".join(made[0].lines).split()) == 9


@pytest.mark.parametrize("end", [5.0, 3.0])
def test_a_segment_that_ends_before_it_starts_is_shown(end: float) -> None:
    (cue,) = make_cues(one("hm", 5.0, end).segments)
    assert (cue.start, cue.end) == (5000, 5001)
    (cue,) = make_cues(one("hm", 5.0, end).segments, seconds=5.0)
    assert (cue.start, cue.end) == (4999, 5000)


def test_few_words_over_a_long_estimated_span_are_one_cue() -> None:
    made = make_cues(one("hello there", 0, 60).segments)
    assert shown(made) == [(0, 7000, ("hello there",))]


def test_no_break_spaces_do_not_break() -> None:
    text = "It takes as long as anyone could wait: 50\u00a0kilometres of road, and no inn."
    made = lines_of(make_cues(one(text, 0, 6).segments))
    assert sum("50\u00a0kilometres" in line for line in made) == 1
