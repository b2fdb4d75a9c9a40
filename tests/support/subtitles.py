"""Transcripts for tests of subtitles, and rules for subtitles, independent of code in `app`."""
# ruff: noqa: E501, RUF001 - samples of many scripts, one a line

import unicodedata
from collections.abc import Iterator, Sequence

from hypothesis import strategies as st

from app.speech.transcript import Segment, Transcript, Word

COLUMNS, LINES, MOST_MS = 42, 2, 7_000

# From jlreq's classes, repeated here: characters that must not begin or end a line.
NOT_FIRST = frozenset(
    "、。，．・：；？！ー゛゜ヽヾゝゞ々’”）〕］｝〉》」』】‐〜…ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ%％,.!?;:)]}"
)
NOT_LAST = frozenset("‘“（〔［｛〈《「『【([{￥$＄")

TEXTS = {
    "en": "And Mr. John Dashwood had then leisure to consider how much there might be prudently in "
    "his power to do for them. He was not an ill-disposed young man, unless to be rather cold "
    "hearted and rather selfish is to be ill-disposed: but he was, in general, well respected; for "
    "he conducted himself with propriety in the discharge of his ordinary duties.",
    "zh": "大家好，欢迎收听今天的节目。今天我们要聊的是2024年人工智能的发展，特别是语音识别技术——它已经走进了"
    "千家万户。“你觉得怎么样？”主持人问道。Qwen3-ASR支持30种语言，准确率超过97.5%，每小时只要￥0.79，价格也很便宜……"
    "听众朋友们如果有问题，可以在上午10：30以后打电话过来。",
    "ja": "皆さん、こんにちは。今日は「コンピューターと音声認識」についてお話しします。２０２４年には、ニューラルネット"
    "ワークを使ったシステムがとても速くなりました。ちょっと待って、まだ終わっていませんよ！次の会議は10：30から"
    "始まりますので、（資料を持って）ぜひいらっしゃってください。人々の「ヴァイオリン・コンチェルト」も聴けます。",
    "ko": "안녕하세요, 오늘은 음성 인식 기술에 대해서 이야기하겠습니다. 지난해부터 많은 회사들이 이 기술을 사용하기 "
    "시작했고, 이제는 누구나 쉽게 쓸 수 있습니다. 감사합니다.",
    "ar": "مرحبا بكم في برنامجنا اليوم، سنتحدث عن تقنية التعرف على الكلام وكيف غيرت حياتنا. هل تعتقد أن هذه التقنية "
    "ستتطور أكثر في المستقبل؟ نعم، بالتأكيد، وبسرعة كبيرة جدا.",
    "th": "สวัสดีครับ วันนี้เราจะพูดถึงเทคโนโลยีการรู้จำเสียงพูดซึ่งกำลังเปลี่ยนแปลงชีวิตประจำวันของเราอย่างรวดเร็ว ขอบคุณครับ",
    "fr": "Il a dit : « Bonjour, comment allez-vous aujourd'hui ? » puis il est parti sans attendre la "
    "réponse de personne !",
}
LETTERS_A_SECOND = {"zh": 4.5, "ja": 6.0, "ko": 6.5}


def said(language: str) -> Transcript:
    """Return a sample as one segment from 1 s on, with a usual speed of speech."""
    text = TEXTS[language]
    seconds = len(text) / LETTERS_A_SECOND.get(language, 14.0)
    segment = Segment(start=1.0, end=1.0 + seconds, text=text, language=language)
    return Transcript(text=text, language=language, segments=(segment,))


def one(text: str, start: float = 0.0, end: float = 1.0, **more: object) -> Transcript:
    segment = Segment(start=start, end=end, text=text, **more)  # type: ignore[arg-type]
    return Transcript(text=text, segments=(segment,))


def bare(text: str) -> str:
    return "".join(text.split())


def all_said(transcript: Transcript) -> str:
    return bare("".join(segment.text for segment in transcript.segments))


def width(line: str) -> int:
    return sum(
        0
        if unicodedata.category(c) in {"Mn", "Me", "Cf"}
        else 2
        if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in line
    )


def breaks(text: str, lines: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the line breaks of a text: the character before, the characters between, the one after."""
    place = 0
    for line in lines:
        start = place
        while text[place].isspace():
            place += 1
        if start:
            yield text[start - 1], text[start:place], text[place]
        for character in line:
            while character != text[place]:
                assert text[place].isspace(), (text[place:], line)
                place += 1
            place += 1
    assert not text[place:].strip()


def is_breach(before: str, between: str, after: str) -> bool:
    """Tell whether a line must not break here."""
    if after in NOT_FIRST or before in NOT_LAST:
        return True
    torn = (before + after).isascii() and before.isalnum() and after.isalnum()
    numbers = before.isdecimal() and after.isdecimal()
    return not between and (torn or numbers or unicodedata.category(after) in {"Mn", "Mc", "Me"})


_SPACED = [
    "word",
    "a",
    "Dashwood's",
    "3.14",
    "1,000",
    "ill-disposed",
    "한국어를",
    "이야기",
    "نعم",
    "التقنية",
    "naïve",
    "rée",
]
_UNSPACED = [
    "你好",
    "人工智能",
    "ちょっと",
    "コンピューター",
    "２０２４",
    "10：30",
    "97.5%",
    "人々",
    "々",
    "ヴァイオリン",
    "สวัสดี",
    "เทคโนโลยี",
    "Qwen3",
    "……",
    "——",
]
_OPEN = ["", "", "", "「", "（", "“", "￥"]
_CLOSE = ["", "", "", "。", "，", "？", "」。", "）", "”", "！"]
_ASCII_CLOSE = ["", "", "", ".", ",", "?", ")."]


@st.composite
def phrases(draw: st.DrawFn) -> str:
    """Words with adjacent punctuation, narrow enough for one line."""
    if draw(st.booleans()):
        return draw(st.sampled_from(_SPACED)) + draw(st.sampled_from(_ASCII_CLOSE)) + " "
    core = draw(st.sampled_from(_UNSPACED))
    lead = draw(st.sampled_from(_OPEN)) if core[0] not in NOT_FIRST else "好"
    return lead + core + draw(st.sampled_from(_CLOSE)) + draw(st.sampled_from(["", "", " ", "  "]))


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    """Consecutive segments, some with words, some with speakers, some empty."""
    at = 0.0
    segments = []
    speakers = draw(st.sampled_from([[None], ["0"], ["0", "1"], [None, "Ann & Bob"]]))
    for said_ in draw(st.lists(st.lists(phrases(), max_size=40), max_size=6)):
        start = at = at + draw(st.floats(0, 9))
        words = []
        for phrase in said_:
            began, at = at, at + draw(st.floats(0, 1))
            words.append(Word(start=began, end=at, text=phrase.strip()))
            at += draw(st.sampled_from([0.0, 0.0, 0.1, 2.0]))
        segments.append(
            Segment(
                start=start,
                end=at,
                text="".join(said_),
                words=tuple(words) if draw(st.booleans()) else (),
                speaker=draw(st.sampled_from(speakers)),
            )
        )
    return Transcript(text="", segments=tuple(segments))


DIALOGUE = Transcript(
    text="Hello, how are you? Fine, thanks. 你好，世界。 That is <all> & no more.",
    language="en",
    segments=(
        Segment(
            start=0.48, end=1.9, text="Hello, how are you?", speaker="0", timing="upstream",
            words=(
                Word(start=0.48, end=0.9, text="Hello"),
                Word(start=0.95, end=1.2, text="how"),
                Word(start=1.2, end=1.4, text="are"),
                Word(start=1.4, end=1.9, text="you"),
            ),
        ),
        Segment(start=2.0, end=2.4, text="Fine, thanks.", speaker="1", timing="upstream"),
        Segment(start=2.5, end=3.6, text="你好，世界。", speaker="1", language="zh"),
        Segment(start=3.6, end=4.0, text="  ", speaker="0"),
        Segment(
            start=65.0, end=72.5, speaker="0",
            text="That is <all> & no more; it was long enough to be broken into two lines, as you "
            "can see. Goodbye!",
        ),
    ),
    coverage=0.9,
)  # fmt: skip
DIALOGUE_SECONDS = 73.0
