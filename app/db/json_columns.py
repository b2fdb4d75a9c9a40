"""The text of JSON columns: by orjson, or by the standard library if orjson cannot hold it.

orjson is several times as fast, but it refuses integers beyond 64 bits and reads them as floats.
A provider's usage and answers are stored as they came, so such values must stay exact.
"""

import json
from typing import Any

import orjson

_STDLIB_MARK = " "  # white space before a value: no JSON reader minds


def encode_json(value: Any) -> str:
    """Return the value as JSON text to store. Raises TypeError if it is not JSON."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # integers beyond 64 bits, lone surrogates, keys not strings
        return _STDLIB_MARK + json.dumps(value)


def decode_json(text: str) -> Any:
    """Return the value of a text that `encode_json` made and the database gave back unchanged.

    Raises TypeError for a number: SQLite returns one as it is, and SQLAlchemy then uses that.
    """
    return json.loads(text) if text[:1] == _STDLIB_MARK else orjson.loads(text)
