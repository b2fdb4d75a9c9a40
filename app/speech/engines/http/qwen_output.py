"""The output of the open Qwen3-ASR weights: `language English<asr_text>Hello.` Pure."""

_TAG = "<asr_text>"
MAX_HEAD_CHARACTERS = 200  # before the tag
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


def parse_output(output: str) -> tuple[str, str | None]:
    """Return the text and the language.

    Output without the tag is all text: the language was forced, or another model answers.
    """
    before, tag, text = output.strip().partition(_TAG)
    if not tag:
        return before, None
    line = before.strip().rpartition("\n")[2]
    name = line.removeprefix(_PREFIX) if line.startswith(_PREFIX) else ""
    return text.strip(), _CODES.get(name.partition(",")[0].strip().lower())


def text_so_far(output: str) -> str | None:
    """Return the text in the beginning of an output, or None while it may be the language."""
    before, tag, text = output.partition(_TAG)
    if tag:
        return text
    head = before.lstrip()
    may_be_language = _PREFIX.startswith(head[: len(_PREFIX)]) and len(head) < MAX_HEAD_CHARACTERS
    return None if may_be_language else before


def forced_output(language: str) -> str | None:
    """Return the beginning of an output that forces a language, or None if it has no name here."""
    name = _NAMES.get(language)
    return f"{_PREFIX}{name}{_TAG}" if name else None
