"""JSON as bytes, by orjson."""

import json
from collections.abc import Callable
from typing import Any

import orjson


def json_bytes(value: Any, default: Callable[[Any], Any] | None = None) -> bytes:
    """Return a value as compact JSON. `default` renders types that JSON does not have.

    Raises TypeError for such a type without `default`.
    """
    try:
        return orjson.dumps(value, default, orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # orjson has no integers of more than 64 bits and no halves of surrogate pairs.
        return json.dumps(value, default=default, separators=(",", ":")).encode()
