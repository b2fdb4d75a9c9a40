"""JSON: as bytes, by orjson, and from clients."""

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

import orjson

from app.kit.text import is_storable, storable

MAX_JSON_DEPTH = 64


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


def parse_json(text: str | bytes | bytearray) -> Any:
    """Parse JSON from a client. Raises ValueError; see also `refuse_unstorable`."""
    try:
        return json.loads(text, parse_constant=_no_such_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def refuse_unstorable(value: Any) -> None:
    """Raise ValueError, with a sentence, if a database or a provider cannot take parsed JSON."""
    pending: list[tuple[Any, int]] = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"The JSON is nested more than {MAX_JSON_DEPTH} levels deep.")
        match item:
            case dict():
                pending += [(one, depth + 1) for pair in item.items() for one in pair]
            case list():
                pending += [(one, depth + 1) for one in item]
            case float() if not math.isfinite(item):
                raise ValueError("A number in the JSON is too large.")
            case str() if not is_storable(item):
                raise ValueError(
                    "A text in the JSON contains a NUL character or half a surrogate pair."
                )


def _no_such_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
