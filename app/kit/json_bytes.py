"""JSON as bytes, by orjson."""

import json
import math
from collections.abc import Callable
from typing import Any

import orjson

from app.kit.text import storable


def json_bytes(value: Any, default: Callable[[Any], Any] | None = None) -> bytes:
    """Return a value as compact JSON. `default` renders types that JSON does not have.

    Raises TypeError for such a type without `default`.
    """
    try:
        return orjson.dumps(value, default, orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # orjson has no integers of more than 64 bits and no halves of surrogate pairs.
        return json.dumps(value, default=default, separators=(",", ":")).encode()


def storable_json(value: Any, depth: int) -> Any:
    """Return a JSON value that every database can store.

    Characters that cannot be stored become U+FFFD. Numbers that are not finite, and lists and
    objects inside more than `depth` others, become null.
    """
    match value:
        case str():
            return storable(value)
        case float():
            return value if math.isfinite(value) else None
        case list() | dict() if depth <= 0:
            return None
        case list():
            return [storable_json(one, depth - 1) for one in value]
        case dict():
            return {storable(name): storable_json(one, depth - 1) for name, one in value.items()}
    return value
