"""Where a line of any script may be broken, how well, and how wide it is.

A short form of the Unicode line breaking algorithm (UAX #14) with the rules for Japanese of
JIS X 4051 as W3C's jlreq tells them (https://www.w3.org/TR/jlreq/#characters_not_starting_a_line
and #characters_not_ending_a_line), and the clusters of the scripts of South-East Asia, which put
no spaces between words either. Their words are found in dictionaries; there is none here.
"""
# ruff: noqa: RUF001 - the wide ones are meant

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from rich.cells import cell_len

from app.speech.merge import is_unspaced

# How well a text is cut at some place, in columns of imbalance that it is worth.
SENTENCE, CLAUSE, TORN = 60, 30, -30

_CLOSING = frozenset(")]}）］｝〕〉》」』】〙〗⦆｠｣")
_QUOTES_CLOSING = frozenset("’”»›〟")
_ENDING = frozenset(".!?…‥⋯。！？．｡‼⁇⁈⁉؟۔।॥։።។॥။")
_PAUSING = frozenset(",;:،؛、，；：､၊፣")
_PER = frozenset("%％‰°℃℉")
# Hyphens, middle dots, iteration marks, the prolonged sound mark, voicing marks.
_KANA_MARKS = frozenset("‐〜゠–～・･·ヽヾゝゞ々〻ーｰ゛゜ﾞﾟ")
_SMALL_KANA = frozenset(
    "ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶㇰㇱㇲㇳㇴㇵㇶㇷㇸㇹㇺㇻㇼㇽㇾㇿｧｨｩｪｫｬｭｮｯ"
)
_NEVER_FIRST = _CLOSING | _ENDING | _PAUSING | _PER
NO_LINE_START = _NEVER_FIRST | _QUOTES_CLOSING | _KANA_MARKS | _SMALL_KANA

_OPENING = frozenset("([{（［｛〔〈《「『【〘〖⦅｟｢")
_QUOTES_OPENING = frozenset("‘“«‹〝")
NO_LINE_END = _OPENING | _QUOTES_OPENING | frozenset("¿¡￥¥$＄£￡€￦₩№#＃")

_EITHER_QUOTE = frozenset("\"'＂＇")
_CLOSERS = "".join(_CLOSING | _QUOTES_CLOSING | _EITHER_QUOTE)
# Behind a space a quotation mark or a dash may as well open.
_NEVER_FIRST_AFTER_SPACE = _NEVER_FIRST | (_KANA_MARKS - frozenset("‐～–〜")) | _SMALL_KANA
_INSEPARABLE = frozenset("—―─…‥⋯〳〵")
_INSIDE_NUMBERS = frozenset(".,:/-．，：／－～〜")
_NO_BREAK_SPACES = frozenset("\u00a0\u202f\u2007")
_JOINERS = _NO_BREAK_SPACES | frozenset("\u2060\u200d\ufeff")
_ZERO_WIDTH_SPACE = "\u200b"
_SKIN = re.compile("[\U0001f3fb-\U0001f3ff]")
_WIDE_LETTER = re.compile("[0-9A-Za-z０-９Ａ-Ｚａ-ｚ]")

# Thai, Lao: vowels that are written before their consonant; and what belongs to the one before.
_LEADING_VOWELS = frozenset("เแโใไເແໂໃໄ")
_FOLLOWING_VOWELS = frozenset("ะาำๅๆฯະາຳຽໆຯ")
_LAST_VOWELS = frozenset("ะำๆະຳໆ")
_STACKERS = frozenset("\u1039\u17d2")  # Burmese, Khmer: the next consonant goes below
_KILLERS = frozenset("\u1039\u103a")  # Burmese: the consonant before ends a syllable
_TIBETAN = re.compile("[\u0f00-\u0fff]")
_TIBETAN_ENDS = frozenset("\u0f0b\u0f0d\u0f0e\u0f0f\u0f10\u0f11\u0f14")
_SOUTH_EAST = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_KATAKANA = re.compile("[\u30a0-\u30ff\u31f0-\u31ff\uff66-\uff9f]")
_HIRAGANA = re.compile("[\u3041-\u309f]")
_IDEOGRAPH = re.compile("[\u3005-\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_DIGIT, _ANY = re.compile(r"\d"), re.compile("")
_EDGES = (
    (_KATAKANA, _KATAKANA, TORN // 2),
    (_HIRAGANA, _HIRAGANA, -6),
    (_HIRAGANA, _ANY, 6),  # mostly behind a particle
    (_IDEOGRAPH, _HIRAGANA, -8),  # mostly an inflected word or a particle
    (_IDEOGRAPH, _IDEOGRAPH, -2),
    (_DIGIT, _IDEOGRAPH, -8),  # a number and what it counts
)

_SPACES = re.compile(r"\s+")
_LAST_WORD = re.compile(r"(\w+)\W*\Z")
_SHORT_FORMS = frozenset({"mr", "mrs", "ms", "dr", "prof", "st", "sr", "sra", "jr", "vs"})
_SHORT_WORD = 3  # "the", "of", "and", "in": what follows belongs to it


def cleaned(text: str) -> str:
    """Return the text on one line: spaces in a row are one, control characters are gone."""

    def one(run: re.Match[str]) -> str:
        return run[0][0] if _NO_BREAK_SPACES.issuperset(run[0]) else " "

    spaced = _SPACES.sub(one, text).strip()
    return "".join(c for c in spaced if c == " " or unicodedata.category(c) != "Cc")


def columns(text: str) -> int:
    """Return the width of a text: a wide character takes two columns, a combining mark none."""
    return cell_len(text, "latest")


def pieces(text: str, most: int) -> Iterator[str]:
    """Yield the pieces that lines are made of, none wider than `most`; joined they are the text.

    A line may be broken behind each of them. One that is too wide, such as a link, is torn.
    """
    start = 0
    for index in range(1, len(text) + 1):
        if index == len(text) or may_break(text, index):
            yield from _torn(text[start:index], most)
            start = index


def may_break(text: str, index: int) -> bool:
    """Tell whether a line may end before this character."""
    before, after = text[index - 1], text[index]
    if after == " " or before in _JOINERS or after in _JOINERS:
        return False
    if before == " ":
        return _may_break_at_space(text, index)
    if before == _ZERO_WIDTH_SPACE:
        return True
    if not (is_unspaced(before) or is_unspaced(after)):
        return False
    return not (
        after in NO_LINE_START
        or before in NO_LINE_END
        or _belongs(before, after)
        or _is_inside_number(text, index)
        or _is_inside_syllable(text, index)
    )


def ease(before: str, after: str) -> int:
    """Return how well a text is cut between these two pieces: above 0 in place of elsewhere."""
    bare = before.rstrip()
    said = bare.rstrip(_CLOSERS) or bare
    if said[-1:] in _ENDING and _ends_sentence(said, after):
        return SENTENCE
    if said[-1:] in _PAUSING or said[-1:] in {"—", "–"}:
        return CLAUSE
    if before != bare:
        return -6 if len(bare) <= _SHORT_WORD and bare.isalpha() else 0
    return _ease_without_space(bare[-1:], after[:1])


def _torn(piece: str, most: int) -> Iterator[str]:
    """Yield a piece, or parts of one that is wider than a line."""
    start = width = 0
    if len(piece) * 2 > most and columns(piece.rstrip()) > most:
        for index, character in enumerate(piece):
            if width + columns(character) > most and character != " ":
                cut = _least_bad(piece, start, index)
                yield piece[start:cut]
                start, width = cut, columns(piece[cut:index])
            width += columns(character)
    yield piece[start:]


def _least_bad(piece: str, start: int, latest: int) -> int:
    """Return where an unbreakable piece is torn: behind no opening mark and before no closing."""
    for cut in range(latest, (start + latest) // 2, -1):
        before, after = piece[cut - 1], piece[cut]
        if (
            after not in NO_LINE_START
            and before not in NO_LINE_END | _JOINERS
            and not _belongs(before, after)
            and not (before.isdecimal() and after.isdecimal())
        ):
            return cut
    while latest > start + 1 and _combines(piece[latest]):
        latest -= 1
    return latest


def _may_break_at_space(text: str, index: int) -> bool:
    before, after = text[index - 2 : index - 1], text[index]
    if after in _NEVER_FIRST_AFTER_SPACE or after in _FOLLOWING_VOWELS or before in _OPENING:
        return False
    # A quotation mark with spaces on both sides, as in French, belongs to what it encloses.
    if after in _QUOTES_CLOSING and not text[index + 1 : index + 2].isalnum():
        return False
    opens = before in _QUOTES_OPENING and text[max(index - 3, 0) : index - 2] in {"", " "}
    return not opens


def _belongs(before: str, after: str) -> bool:
    """Tell whether two neighbours are never parted."""
    return (
        (before == after and before in _INSEPARABLE)
        or before in _EITHER_QUOTE
        or after in _EITHER_QUOTE
        or _combines(after)
        or bool(_WIDE_LETTER.match(before) and _WIDE_LETTER.match(after))
        or (before.isdecimal() and after.isdecimal())
    )


@lru_cache(maxsize=8192)
def _combines(character: str) -> bool:
    """Tell whether a character is part of the one before: a mark, a joiner, a skin tone."""
    if character == _ZERO_WIDTH_SPACE:
        return False
    return unicodedata.category(character) in {"Mn", "Mc", "Me", "Cf"} or bool(
        _SKIN.match(character)
    )


def _is_inside_number(text: str, index: int) -> bool:
    return (
        index > 1
        and text[index - 1] in _INSIDE_NUMBERS
        and text[index].isdecimal()
        and text[index - 2].isdecimal()
    )


def _is_inside_syllable(text: str, index: int) -> bool:
    before, after = text[index - 1], text[index]
    if _TIBETAN.match(before) and _TIBETAN.match(after):
        return before not in _TIBETAN_ENDS or after in _TIBETAN_ENDS
    return (
        before in _LEADING_VOWELS
        or after in _FOLLOWING_VOWELS
        or before in _STACKERS
        or text[index + 1 : index + 2] in _KILLERS
    )


def _ends_sentence(said: str, after: str) -> bool:
    """Tell whether a mark ends a sentence; the point of `Mr.` or of an initial does not."""
    if after[:1].islower():
        return False
    if said[-1] != "." or said.endswith(".."):
        return True
    word = _LAST_WORD.search(said)
    return not (word and (word[1].lower() in _SHORT_FORMS or (len(word[1]) == 1 and word[1].isupper())))  # fmt: skip  # noqa: E501


def _ease_without_space(before: str, after: str) -> int:
    """Judge a cut inside a script without spaces by what mostly stands at its words' edges."""
    if not (is_unspaced(before) or is_unspaced(after)):
        return TORN
    if _SOUTH_EAST.match(before) and _SOUTH_EAST.match(after):
        is_edge = after in _LEADING_VOWELS or before in _LAST_VOWELS  # of a syllable, at least
        return TORN // 2 if is_edge else TORN
    for left, right, worth in _EDGES:
        if left.match(before) and right.match(after):
            return worth
    return 0
