"""What the open Qwen3-ASR weights write before their text, and the languages as they name them."""

_TAG = "<asr_text>"
LONGEST_HEAD = 200  # characters that the name of a language and its tag never have
_PREFIX = "language "
_NAMES = {
    "zh": "Chinese",
    "en": "English",
    "yue": "Cantonese",
    "ar": "Arabic",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "pt": "Portuguese",
    "id": "Indonesian",
    "it": "Italian",
    "ko": "Korean",
    "ru": "Russian",
    "th": "Thai",
    "vi": "Vietnamese",
    "ja": "Japanese",
    "tr": "Turkish",
    "hi": "Hindi",
    "ms": "Malay",
    "nl": "Dutch",
    "sv": "Swedish",
    "da": "Danish",
    "fi": "Finnish",
    "pl": "Polish",
    "cs": "Czech",
    "fil": "Filipino",
    "fa": "Persian",
    "el": "Greek",
    "ro": "Romanian",
    "hu": "Hungarian",
    "mk": "Macedonian",
}
_CODES = {name.lower(): code for code, name in _NAMES.items()}


def read_raw(raw: str) -> tuple[str, str | None]:
    """Return the text and the language of `language English<asr_text>Hello.`.

    Text without the tag is all text: the language was forced, or another model answers.
    """
    before, tag, text = raw.strip().partition(_TAG)
    if not tag:
        return before, None
    line = before.strip().rpartition("\n")[2]
    named = line.removeprefix(_PREFIX) if line.startswith(_PREFIX) else ""
    return text.strip(), _CODES.get(named.partition(",")[0].strip().lower())


def said_in(begun: str) -> str | None:
    """Return the text inside the beginning of what `read_raw` reads; None before it is known."""
    before, tag, text = begun.partition(_TAG)
    if tag:
        return text
    head = before.lstrip()
    may_be_named = _PREFIX.startswith(head[: len(_PREFIX)]) and len(head) < LONGEST_HEAD
    return None if may_be_named else before


def begun_in(language: str) -> str | None:
    """Return how an answer in this language begins; None for one that the weights do not name."""
    name = _NAMES.get(language)
    return f"{_PREFIX}{name}{_TAG}" if name else None
