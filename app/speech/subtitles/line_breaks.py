"""Break positions in a line of any script, the quality of each break, and the display width.

A short form of the Unicode line breaking algorithm (UAX #14), with the rules for Japanese of JIS X
4051 as in W3C's jlreq (https://www.w3.org/TR/jlreq/#characters_not_starting_a_line and
#characters_not_ending_a_line). The scripts of South-East Asia have no spaces either: their lines
break between syllables, as finding their words takes a dictionary. docs/decisions/0013 says why no
library does this.
"""
# ruff: noqa: RUF001 - wide characters are intended

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from rich.cells import cell_len

from app.speech.merge import is_unspaced

# Quality of a break, as the number of columns by which it may unbalance the lines.
SENTENCE, CLAUSE, FORBIDDEN = 60, 30, -30

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
# After a space, a quotation mark or a dash may open as well as close.
_NEVER_FIRST_AFTER_SPACE = _NEVER_FIRST | (_KANA_MARKS - frozenset("‐～–〜")) | _SMALL_KANA
_INSEPARABLE = frozenset("—―─…‥⋯〳〵")
_INSIDE_NUMBERS = frozenset(".,:/-．，：／－～〜")
_NO_BREAK_SPACES = frozenset("\u00a0\u202f\u2007")
_JOINERS = _NO_BREAK_SPACES | frozenset("\u2060\u200d\ufeff")
_ZERO_WIDTH_SPACE = "\u200b"
_SKIN = re.compile("[\U0001f3fb-\U0001f3ff]")
_WIDE_LETTER = re.compile("[0-9A-Za-z０-９Ａ-Ｚａ-ｚ]")

# Thai, Lao: vowels written before their consonant, and characters written after theirs.
_LEADING_VOWELS = frozenset("เแโใไເແໂໃໄ")
_FOLLOWING_VOWELS = frozenset("ะาำๅๆฯະາຳຽໆຯ")
_LAST_VOWELS = frozenset("ะำๆະຳໆ")
_STACKERS = frozenset("\u1039\u17d2")  # Burmese, Khmer: the next consonant is written below
_KILLERS = frozenset("\u1039\u103a")  # Burmese: the consonant before them ends a syllable
_TIBETAN = re.compile("[\u0f00-\u0fff]")
_TIBETAN_ENDS = frozenset("\u0f0b\u0f0d\u0f0e\u0f0f\u0f10\u0f11\u0f14")
_SOUTH_EAST = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_KATAKANA = re.compile("[\u30a0-\u30ff\u31f0-\u31ff\uff66-\uff9f]")
_HIRAGANA = re.compile("[\u3041-\u309f]")
_IDEOGRAPH = re.compile("[\u3005-\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_DIGIT, _ANY = re.compile(r"\d"), re.compile("")
_EDGES = (
    (_KATAKANA, _KATAKANA, FORBIDDEN // 2),
    (_HIRAGANA, _HIRAGANA, -6),
    (_HIRAGANA, _ANY, 6),  # mostly after a particle
    (_IDEOGRAPH, _HIRAGANA, -8),  # mostly an inflected word or a particle
    (_IDEOGRAPH, _IDEOGRAPH, -2),
    (_DIGIT, _IDEOGRAPH, -8),  # a number and its unit
)

_SPACES = re.compile(r"\s+")
_LAST_WORD = re.compile(r"(\w+)\W*\Z")
_SHORT_FORMS = frozenset({"mr", "mrs", "ms", "dr", "prof", "st", "sr", "sra", "jr", "vs"})
_SHORT_WORD = 3  # "the", "of", "and", "in" belong to the next word


def single_line(text: str) -> str:
    """Return the text with one space for each run of white space, without control characters."""

    def space(run: re.Match[str]) -> str:
        return run[0][0] if _NO_BREAK_SPACES.issuperset(run[0]) else " "

    spaced = _SPACES.sub(space, text).strip()
    return "".join(c for c in spaced if c == " " or unicodedata.category(c) != "Cc")


def display_width(text: str) -> int:
    """Return the columns of a text: a wide character takes two, a combining mark none."""
    return cell_len(text, "latest")


def split_at_breaks(text: str, max_width: int) -> Iterator[str]:
    """Yield the text piece by piece; a line may end after each piece.

    No piece is wider than `max_width`: a longer one, such as a link, is divided where it may not
    be broken.
    """
    start = 0
    for index in range(1, len(text) + 1):
        if index == len(text) or may_break(text, index):
            yield from _divided(text[start:index], max_width)
            start = index


def may_break(text: str, index: int) -> bool:
    """Tell whether a line may end before the character at `index`."""
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
        or (
            before in _INSIDE_NUMBERS
            and after.isdecimal()
            and index > 1
            and text[index - 2].isdecimal()
        )
        or _is_inside_syllable(text, index)
    )


def break_quality(before: str, after: str) -> int:
    """Return the quality of a break between two pieces; see SENTENCE, CLAUSE and FORBIDDEN.

    Positive values invite a break, negative ones advise against it.
    """
    bare = before.rstrip()
    unquoted = bare.rstrip(_CLOSERS) or bare
    if unquoted[-1:] in _ENDING and not after[:1].islower():
        # A single point may be that of `Mr.` or of an initial.
        has_point = unquoted[-1] == "." and not unquoted.endswith("..")
        last = _LAST_WORD.search(unquoted) if has_point else None
        word = last[1] if last else ""
        if word.lower() not in _SHORT_FORMS and not (len(word) == 1 and word.isupper()):
            return SENTENCE
    if unquoted[-1:] in _PAUSING or unquoted[-1:] in {"—", "–"}:
        return CLAUSE
    if before != bare:
        return -6 if len(bare) <= _SHORT_WORD and bare.isalpha() else 0
    left, right = bare[-1:], after[:1]
    if not (is_unspaced(left) or is_unspaced(right)):
        return FORBIDDEN
    if _SOUTH_EAST.match(left) and _SOUTH_EAST.match(right):
        is_syllable_edge = right in _LEADING_VOWELS or left in _LAST_VOWELS
        return FORBIDDEN // 2 if is_syllable_edge else FORBIDDEN
    # In scripts without spaces, the characters show the likely edges of words.
    edges = (worth for ends, begins, worth in _EDGES if ends.match(left) and begins.match(right))
    return next(edges, 0)


def _divided(piece: str, max_width: int) -> Iterator[str]:
    """Yield a piece, or the parts of a piece that is wider than a line."""
    start = width = 0
    if len(piece) * 2 > max_width and display_width(piece.rstrip()) > max_width:
        for index, character in enumerate(piece):
            if width + display_width(character) > max_width and character != " ":
                cut = _forced_break(piece, start, index)
                yield piece[start:cut]
                start, width = cut, display_width(piece[cut:index])
            width += display_width(character)
    yield piece[start:]


def _forced_break(piece: str, start: int, latest: int) -> int:
    """Return the last index up to `latest` that is not after an opening or before a closing mark.

    Marks that combine with a letter stay with it.
    """
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
    # A quotation mark with spaces on both sides, as in French, belongs to the quoted text.
    if after in _QUOTES_CLOSING and not text[index + 1 : index + 2].isalnum():
        return False
    opens = before in _QUOTES_OPENING and text[max(index - 3, 0) : index - 2] in {"", " "}
    return not opens


def _belongs(before: str, after: str) -> bool:
    """Tell whether two neighbours are never separated."""
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
    """Tell whether a character combines with the one before: a mark, a joiner, a skin tone."""
    if character == _ZERO_WIDTH_SPACE:
        return False
    return unicodedata.category(character) in {"Mn", "Mc", "Me", "Cf"} or bool(
        _SKIN.match(character)
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
