"""Write `docs/warnings.md`: every warning code, from the module that defines them.

python -m tests.support.warning_table
"""

from pathlib import Path

from app.speech.warning_codes import EXPLANATIONS, WarningCode

FILE = Path(__file__).parents[2] / "docs" / "warnings.md"
HEAD = """\
# Warnings

A completed transcription and an estimate may have `warnings[]`. Branch on `code`, which is stable.
`detail` describes the occurrence. `option` is the parameter of the request to which the warning
applies; `start` and `end` are the span of the audio in seconds.

| code | meaning |
| --- | --- |
"""
TAIL = """
An estimate also carries the error codes `cost_above_limit` and `seconds_above_limit` where a
transcription with these limits would be rejected ([errors.md](errors.md)).
"""


def rendered() -> str:
    """Return the text of the file. Raises ValueError for a code without an explanation."""
    if missing := sorted(set(WarningCode) - set(EXPLANATIONS)):
        raise ValueError(f"EXPLANATIONS in app/speech/warning_codes.py lacks {', '.join(missing)}")
    rows = [f"| `{code}` | {text} |\n" for code, text in sorted(EXPLANATIONS.items())]
    return HEAD + "".join(rows) + TAIL


if __name__ == "__main__":
    FILE.write_text(rendered())
