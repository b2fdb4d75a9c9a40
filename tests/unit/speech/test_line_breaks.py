"""Where lines may be broken: a text with a bar at each place."""
# ruff: noqa: RUF001 - the wide ones are meant

import pytest

from app.speech.subtitles.line_breaks import CLAUSE, SENTENCE, cleaned, columns, ease, pieces

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
def test_pieces(barred: str) -> None:
    assert list(pieces(barred.replace("|", ""), WIDE)) == barred.split("|")


def test_what_is_wider_than_a_line_is_torn_but_no_letter_from_its_marks() -> None:
    link = "https://example.org/" + "a" * 100
    assert [len(piece) for piece in pieces(link, 40)] == [40, 40, 40]
    accents = "e\u0301" * 60
    assert [columns(piece) for piece in pieces(accents, 40)] == [40, 20]
    assert not any(piece.startswith("\u0301") for piece in pieces(accents, 40))
    assert all(columns(piece) <= 40 for piece in pieces("。" * 100, 40))


def test_columns() -> None:
    assert [columns(text) for text in ("abc", "好。", "ｱ", "e\u0301", "สวัสดี", "한국", "👍")] == [
        3, 4, 1, 1, 4, 4, 2,
    ]  # fmt: skip


def test_ease() -> None:
    assert ease("so. ", "He") == ease("好。", "他") == ease("said.” ", "He") == SENTENCE
    assert ease("so, ", "he") == ease("好，", "他") == ease("نعم، ", "لا") == CLAUSE
    for before, after in (("Mr. ", "John"), ("J. ", "Austen"), ("approx. ", "ten")):
        assert ease(before, after) <= 0
    assert ease("the ", "sea") < ease("sailing ", "sea") < CLAUSE
    assert ease("タ", "ー") < ease("の", "映") > ease("語", "り")


def test_cleaned() -> None:
    assert cleaned(" a\n\tb \u3000c\u2028d\x00\x1b ") == "a b c d"
    assert cleaned("50\u00a0km") == "50\u00a0km"
