"""Subtitles are read back by other people's parsers, and must still say what was said."""

import html
from itertools import pairwise

import pysubs2
import pytest
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from app.speech.formats import CUE_LINES, CUE_MS, LINE_COLUMNS, cues, render
from app.speech.transcript import Segment, Transcript, Word

# No < > { }: pysubs2 reads those as tags of its own.
SPOKEN = st.text(alphabet="abcdefghi jklm,. 你好世界。，!?é", max_size=300)  # noqa: RUF001


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    at = 0.0
    segments = []
    for text in draw(st.lists(SPOKEN, max_size=6)):
        start = at + draw(st.floats(0, 5))
        at = start + draw(st.floats(0, 40))
        segments.append(Segment(start=start, end=at, text=text))
    return Transcript(text="", segments=tuple(segments))


def bare(text: str) -> str:
    return "".join(text.split())


def said(transcript: Transcript) -> str:
    return bare("".join(segment.text for segment in transcript.segments))


def one(text: str, start: float = 0.0, end: float = 1.0, **more: object) -> Transcript:
    segment = Segment(start=start, end=end, text=text, **more)  # type: ignore[arg-type]
    return Transcript(text=text, segments=(segment,))


@given(transcripts())
def test_srt_read_back_says_the_same_in_order(transcript: Transcript) -> None:
    events = pysubs2.SSAFile.from_string(render(transcript, "srt"), "srt").events
    assert bare("".join(e.plaintext for e in events)) == said(transcript)
    assert all(a.start <= b.start for a, b in pairwise(events))


@given(transcripts())
def test_vtt_read_back_says_the_same(transcript: Transcript) -> None:
    captions = webvtt.from_string(render(transcript, "vtt")).captions
    assert bare("".join(html.unescape(c.raw_text) for c in captions)) == said(transcript)


@given(transcripts())
def test_cues_are_short_narrow_and_never_empty(transcript: Transcript) -> None:
    made = cues(transcript.segments)
    for cue in made:
        assert 0 < cue.end - cue.start <= CUE_MS
        assert 1 <= len(cue.lines) <= CUE_LINES
        for line in cue.lines:
            assert line.strip()
            assert sum(2 if c in "你好世界。，！？" else 1 for c in line) <= LINE_COLUMNS  # noqa: RUF001
    assert all(a.start <= b.start for a, b in pairwise(made))
    assert all(a.end <= b.start for a, b in pairwise(made) if a.start < b.start)


@given(transcripts())
def test_lrc_has_one_stamped_line_a_cue(transcript: Transcript) -> None:
    lines = render(transcript, "lrc").splitlines()
    assert len(lines) == len(cues(transcript.segments))
    assert bare("".join(line.split("]", 1)[1] for line in lines)) == said(transcript)


def test_text_is_the_text() -> None:
    assert render(Transcript(text="你好"), "text") == "你好"


def test_an_empty_transcript_is_a_valid_file_without_cues() -> None:
    empty = Transcript(text="", segments=(Segment(start=0, end=1, text="  "),))
    assert render(empty, "srt") == ""
    assert render(empty, "vtt") == "WEBVTT\n\n"
    assert render(empty, "lrc") == ""


def test_srt_counts_from_one_and_past_a_hundred_hours() -> None:
    at = 100 * 3600 + 61.5
    assert render(one("late", at, at + 1), "srt") == (
        "1\n100:01:01,500 --> 100:01:02,500\nlate\n\n"
    )


def test_lrc_counts_minutes_past_an_hour_and_keeps_brackets_apart() -> None:
    assert render(one("[la]", 3725.257, 3726), "lrc") == "[62:05.25] [la]\n"


def test_vtt_escapes_what_its_grammar_would_read() -> None:
    text = render(one("a --> b & <c>"), "vtt")
    assert text.endswith("\na --&gt; b &amp; &lt;c&gt;\n\n")


def test_line_breaks_and_control_characters_of_a_text_cannot_make_cues() -> None:
    text = render(one("a\n\n2\n00:00:00,000 --> 00:00:09,000\x00\r\nb"), "srt")
    assert text.count("-->") == 1
    assert text.count("\n\n") == 1
    assert "\x00" not in text


def test_a_long_text_is_cut_after_a_sentence() -> None:
    first = "One two three four five six seven eight nine ten eleven twelve."
    made = cues(one(f"{first} Thirteen fourteen fifteen sixteen seventeen.", 0, 8).segments)
    assert " ".join(made[0].lines) == first


def test_words_give_the_times_of_the_cuts() -> None:
    words = tuple(Word(start=i, end=i + 0.5, text=f"w{i}") for i in range(10))
    made = cues(one(" ".join(w.text for w in words), 0, 9.5, words=words).segments)
    assert [(cue.start, cue.end) for cue in made] == [(0, 6500), (7000, 9500)]


def test_words_that_do_not_spell_the_text_are_not_believed() -> None:
    words = (Word(start=90, end=91, text="other"),)
    (cue,) = cues(one("this", 0, 1, words=words).segments)
    assert (cue.start, cue.end) == (0, 1000)


def test_wide_characters_count_two_and_punctuation_ends_a_line() -> None:
    (cue,) = cues(one("好" * 21 + "。" + "好" * 19, 0, 5).segments)
    assert cue.lines == ("好" * 20, "好。" + "好" * 19)


@pytest.mark.parametrize("end", [5.0, 3.0])
def test_a_segment_that_ends_before_it_starts_still_shows(end: float) -> None:
    (cue,) = cues(one("hm", 5.0, end).segments)
    assert (cue.start, cue.end) == (5000, 5001)


def test_a_few_words_over_a_long_estimated_span_are_one_cue() -> None:
    made = cues(one("hello there", 0, 60).segments)
    assert [(cue.start, cue.end, cue.lines) for cue in made] == [(0, 7000, ("hello there",))]
