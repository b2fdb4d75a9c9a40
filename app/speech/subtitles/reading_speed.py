"""The time that a viewer needs to read a text.

After the Netflix Timed Text Style Guides for adult programmes: a cue is shown for 5/6 s to 7 s, at
most 17 characters a second in most alphabets, spaces included, 12 in Korean, 9 in Chinese. Their 4
for Japanese is meant for translations that are shortened; a transcript is not, so kana count like
Chinese here.
"""

import re

MIN_CUE_MS = 833
MAX_CUE_MS = 7_000

_ALPHABET_MS, _HANGUL_MS, _IDEOGRAPH_MS = 1000 / 17, 1000 / 12, 1000 / 9
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")
_IDEOGRAPH = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def reading_ms(text: str) -> int:
    """Return the milliseconds for which a cue of this text should be shown."""
    hangul, ideographs = len(_HANGUL.findall(text)), len(_IDEOGRAPH.findall(text))
    others = len(text) - hangul - ideographs
    needed = hangul * _HANGUL_MS + ideographs * _IDEOGRAPH_MS + others * _ALPHABET_MS
    return min(max(round(needed), MIN_CUE_MS), MAX_CUE_MS)
