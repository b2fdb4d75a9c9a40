"""Break positions, shown as bars in a text; quality of breaks; display width.

Covers: app.speech.subtitles.line_breaks
"""
# ruff: noqa: RUF001 - wide characters are intended

import pytest

from app.speech.subtitles.line_breaks import (
    CLAUSE,
    SENTENCE,
    break_quality,
    display_width,
    single_line,
    split_at_breaks,
)

WIDE = 80


@pytest.mark.parametrize(
    "barred",
    [
        "He |was |not |an |ill-disposed |young |man.",
        "你|好，|世|界。",
        "「ちょっ|と」|待っ|て",
        "コ|ン|ピュー|ター",
        "人々|の|夢……|だ|——|そ|う",
        "第|2024|年|第|１２|回",
        "上|午|10：30|到|3～5|点，|１．５|倍",
        "价|格|￥0.79，|约|97.5%",
        "他|说|“你|好”。|她|说|‘好’",
        "（注）|『本』|を|読|む",
        "用|Qwen3-ASR|识|别",
        "안녕하세요, |오늘은 |음성 |인식",
        "مرحبا |بكم |في |برنامجنا، |اليوم",
        "dit : |« Bonjour » |puis",
        "Er |sagte: |„Hallo“ |zu |»mir«.",
        "50\u00a0km |weit",
        "ส|วั|ส|ดี |เร็|ว ๆ |ไป",
        "བོད་|སྐད་",
        "👍🏽|好|👨\u200d👩\u200d👧",
        "好 。|了 ！|吧",
        "a\u200b|b",
    ],
)
def test_split_at_breaks(barred: str) -> None:
    assert list(split_at_breaks(barred.replace("|", ""), WIDE)) == barred.split("|")


def test_a_piece_wider_than_a_line_is_divided_but_no_letter_from_its_marks() -> None:
    link = "https://example.org/" + "a" * 100
    assert [len(piece) for piece in split_at_breaks(link, 40)] == [40, 40, 40]
    accents = "e\u0301" * 60
    assert [display_width(piece) for piece in split_at_breaks(accents, 40)] == [40, 20]
    assert not any(piece.startswith("\u0301") for piece in split_at_breaks(accents, 40))
    assert all(display_width(piece) <= 40 for piece in split_at_breaks("。" * 100, 40))


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("abc", 3),
        ("好。", 4),
        ("ｱ", 1),
        ("e\u0301", 1),
        ("สวัสดี", 4),
        ("한국", 4),
        ("👍", 2),
        ("👍🏽", 2),
        ("👨\u200d👩\u200d👧", 2),
    ],
)
def test_display_width(text: str, columns: int) -> None:
    assert display_width(text) == columns


def test_break_quality() -> None:
    assert (
        break_quality("so. ", "He")
        == break_quality("好。", "他")
        == break_quality("said.” ", "He")
        == SENTENCE
    )
    assert (
        break_quality("so, ", "he")
        == break_quality("好，", "他")
        == break_quality("نعم، ", "لا")
        == CLAUSE
    )
    for before, after in (("Mr. ", "John"), ("J. ", "Austen"), ("approx. ", "ten")):
        assert break_quality(before, after) <= 0
    assert break_quality("the ", "sea") < break_quality("sailing ", "sea") < CLAUSE
    assert break_quality("タ", "ー") < break_quality("の", "映") > break_quality("語", "り")


def test_single_line() -> None:
    assert single_line(" a\n\tb \u3000c\u2028d\x00\x1b ") == "a b c d"
    assert single_line("50\u00a0km") == "50\u00a0km"
