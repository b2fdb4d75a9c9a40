"""Repetition loops are found, and real speech is not taken for one.

Covers: app.speech.repetition
"""

import pytest

from app.speech.repetition import find_loop, share_of_loops

AUSTEN = (
    "and mister john dashwood had then leisure to consider how much there might be prudently in "
    "his power to do for them he was not an ill disposed young man unless to be rather cold "
    "hearted and rather selfish is to be ill disposed"
)
CHORUS = "we will we will rock you " * 2
VERSES = (
    "buddy you are a boy make a big noise playing in the street ",
    "buddy you are a young man hard man shouting in the street ",
    "buddy you are an old man poor man pleading with your eyes ",
)
SPOKEN = {
    "prose": AUSTEN,
    "prose said twice": f"{AUSTEN} {AUSTEN}",
    "no": "no no no no no I said no",
    "counting": "one two three four five six seven eight nine ten " * 4,
    "counting in Chinese": "一二三四五六七八九十" * 4,
    "digits": "zero zero zero zero one one two five five five",
    "a song": "".join(verse + CHORUS for verse in VERSES) + CHORUS,
    "an outro": "na na na nananana nananana hey jude " * 4,
    "la la la": "la " * 12,
    "laughter": "哈哈哈哈哈哈哈哈",
    "yes": "对对对对对对对、就是这样",
    "thanks": "谢谢大家、谢谢、谢谢。",
    "Japanese": "はいはいはい、そうですね、そうですね、わかりました。",
    "Thai": "สวัสดีครับ สวัสดีครับ สวัสดีค่ะ",
    "Arabic": "نعم نعم نعم هذا صحيح",
    "telephone": "press 1 for sales press 2 for support press 3 for billing press 4 to wait",
    "marks only": "... ... ... ... ... ... ... ... ... ... ... ... ... ... ... ... ... ... ... ...",
    "nothing": "",
}
LOOPS = {
    "a word": "so it was " + "the " * 40,
    "a phrase": "Thank you for watching. " * 12,
    "a sentence": "he was not an ill disposed young man unless to be rather cold hearted. " * 7,
    "Chinese": "谢谢观看" * 30,
    "a Chinese sentence": "我们来看一下这个问题、" * 8,
    "Japanese": "ご視聴ありがとうございました。" * 9,
    "Thai": "ขอบคุณครับ" * 12,
    "inside of speech": f"{AUSTEN} {'you know ' * 30} {AUSTEN}",
    "a word without spaces": "ha" * 80,
    "whatever its case and marks": "Okay. okay, OKAY! " * 10,
}


@pytest.mark.parametrize("text", SPOKEN.values(), ids=SPOKEN)
def test_real_speech_is_no_repetition_loop(text: str) -> None:
    assert find_loop(text) is None
    assert share_of_loops(text) == 0


@pytest.mark.parametrize("text", LOOPS.values(), ids=LOOPS)
def test_loops_are_found(text: str) -> None:
    assert find_loop(text) is not None


def test_a_loop_has_its_text_count_and_share() -> None:
    loop = find_loop("one two " + "thank you " * 49)
    assert loop is not None
    assert (loop.period, loop.times) == (2, 49)
    assert loop.share == pytest.approx(0.96)


def test_a_text_that_loops_in_two_places_is_worse_than_one_that_does_in_one() -> None:
    once, twice = f"{AUSTEN} {'so ' * 30}", f"{'so ' * 30} {AUSTEN} {'so ' * 30}"
    assert share_of_loops(once) < share_of_loops(twice)


def test_the_longest_text_of_a_part_is_read_in_a_moment() -> None:
    words = " ".join(f"word{number % 997}" for number in range(20_000))
    assert find_loop(words) is None
