"""Subtitles that independent parsers read have the text and times of the transcript.

Covers: app.speech.subtitles.cues, app.speech.subtitles.formats
"""

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pysubs2
import pytest
import webvtt
from hypothesis import given

from app.speech.subtitles.cues import Cue, make_cues
from app.speech.subtitles.formats import Format, render
from app.speech.transcript import Segment, Transcript
from tests.support.subtitles import (
    DIALOGUE,
    DIALOGUE_SECONDS,
    TEXTS,
    all_said,
    bare,
    one,
    said,
    transcripts,
)

GOLDEN = Path(__file__).parent / "golden"


def stamp(text: str) -> int:
    """Parse a WebVTT timestamp."""
    hours, minutes, seconds = text.split(":")
    return round((int(hours) * 3600 + int(minutes) * 60) * 1000 + float(seconds) * 1000)


def turned(cue: Cue) -> str:
    return ("- " if cue.starts_speaker else "") + "\n".join(cue.lines)


def read_srt(text: str) -> list[tuple[int, int, str]]:
    events = pysubs2.SSAFile.from_string(text, "srt").events
    return [(event.start, event.end, event.plaintext) for event in events]


def read_vtt(text: str) -> list[tuple[int, int, str, str | None]]:
    return [
        (stamp(one.start), stamp(one.end), html.unescape(one.text), one.voice)
        for one in webvtt.from_string(text).captions
    ]


def check_srt(made: Sequence[Cue], text: str) -> None:
    assert read_srt(text) == [(cue.start, cue.end, turned(cue)) for cue in made]


def check_vtt(made: Sequence[Cue], text: str) -> None:
    found = read_vtt(text)
    assert [one[:3] for one in found] == [
        (cue.start, cue.end, "\n".join(cue.lines)) for cue in made
    ]
    assert [html.unescape(one[3] or "") for one in found] == [cue.speaker or "" for cue in made]


@given(transcripts())
def test_srt_is_read_back_with_the_same_texts_and_times(transcript: Transcript) -> None:
    check_srt(make_cues(transcript.segments), render(transcript, "srt"))


@given(transcripts())
def test_vtt_is_read_back_with_the_same_texts_times_and_voices(transcript: Transcript) -> None:
    check_vtt(make_cues(transcript.segments), render(transcript, "vtt"))


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_real_languages_are_read_back(language: str) -> None:
    transcript = said(language)
    made = make_cues(transcript.segments, 60)
    check_srt(made, render(transcript, "srt", seconds=60))
    check_vtt(made, render(transcript, "vtt", seconds=60))


@given(transcripts())
def test_lrc_has_one_stamped_line_a_cue(transcript: Transcript) -> None:
    lines = render(transcript, "lrc").splitlines()
    assert len(lines) == len(make_cues(transcript.segments))
    assert bare("".join(line.split("]", 1)[1] for line in lines)) == all_said(transcript)


@given(transcripts())
def test_tsv_has_one_row_a_cue(transcript: Transcript) -> None:
    head, *rows = render(transcript, "tsv").splitlines()
    assert head == "start\tend\ttext"
    cells = [row.split("\t") for row in rows]
    assert [(int(start), int(end)) for start, end, _ in cells] == [
        (cue.start, cue.end) for cue in make_cues(transcript.segments)
    ]
    assert bare("".join(text for _, _, text in cells)) == all_said(transcript)


@pytest.mark.parametrize("fmt", get_args(Format))
def test_each_format_is_unchanged(fmt: Format) -> None:
    golden = GOLDEN / f"dialogue.{fmt}"
    assert render(DIALOGUE, fmt, seconds=DIALOGUE_SECONDS) == golden.read_text(encoding="utf-8")


def test_json_is_the_transcript() -> None:
    assert Transcript.model_validate(json.loads(render(DIALOGUE, "json"))) == DIALOGUE


def test_text_is_the_text() -> None:
    assert render(Transcript(text="你好"), "text") == "你好"


def test_an_empty_transcript_is_a_valid_file_without_cues() -> None:
    empty = Transcript(text="", segments=(Segment(start=0, end=1, text="  "),))
    assert render(empty, "srt") == ""
    assert render(empty, "vtt") == "WEBVTT\n\n"
    assert render(empty, "lrc") == ""
    assert render(empty, "tsv") == "start\tend\ttext\n"


def test_srt_counts_from_one_and_past_a_hundred_hours() -> None:
    at = 100 * 3600 + 61.5
    assert render(one("late", at, at + 1), "srt") == (
        "1\n100:01:01,500 --> 100:01:02,500\nlate\n\n"
    )


def test_a_line_of_digits_is_no_number_of_a_cue() -> None:
    numbers = [Segment(start=i * 9, end=i * 9 + 1, text=str(1984 + i)) for i in range(3)]
    read = read_srt(render(Transcript(text="", segments=tuple(numbers)), "srt"))
    assert [text for _, _, text in read] == ["1984", "1985", "1986"]


def test_lrc_counts_minutes_past_an_hour_and_keeps_brackets_apart() -> None:
    assert render(one("[la]", 3725.257, 3726), "lrc") == "[62:05.25] [la]\n"


def test_vtt_escapes_what_its_grammar_would_read() -> None:
    text = render(one("a --> b & <c>", speaker="<b>&\n"), "vtt")
    assert text.endswith("\n<v &lt;b&gt;&amp;>a --&gt; b &amp; &lt;c&gt;\n\n")


def test_line_breaks_and_control_characters_of_a_text_cannot_make_cues() -> None:
    text = render(one("a\n\n2\n00:00:00,000 --> 00:00:09,000\x00\r\nb"), "srt")
    assert text.count("-->") == 1
    assert text.count("\n\n") == 1
    assert "\x00" not in text
    assert render(one("a\tb\nc"), "tsv").splitlines()[1] == "0\t1000\ta b c"
