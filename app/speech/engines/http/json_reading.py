"""Reading JSON of providers without trusting its shape. Pure."""

import json
import math
from typing import Any

import orjson

from app.kit.json_bytes import storable_json
from app.net.http.event_stream import StreamEvent

MAX_DEPTH = 64  # of nested lists and objects that are kept


def read_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a body as `storable_json`, or None if the body is anything else.

    Integers beyond 64 bits become floats. No provider sends one.
    """
    is_odd = b"\\u0000" in body or body.count(b"[") + body.count(b"{") > MAX_DEPTH
    try:
        value = orjson.loads(body)
    except ValueError:
        # The standard library also reads NaN, and half a surrogate pair.
        try:
            value, is_odd = json.loads(body), True
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, dict):
        return None
    return storable_json(value, MAX_DEPTH) if is_odd else value


def member(value: Any, *path: str | int) -> Any:
    """Return the value at a path inside JSON, or None if the path ends early."""
    for step in path:
        match value:
            case dict():
                value = value.get(step)
            case list() if isinstance(step, int) and step < len(value):
                value = value[step]
            case _:
                return None
    return value


def number_of(value: Any) -> float | None:
    """Return a count that a provider reports, or None if it is no count."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        counted = float(value)
    except OverflowError:
        return None
    return counted if math.isfinite(counted) and counted >= 0 else None


def text_of(value: Any) -> str:
    """Return a text, or an empty one if the value is no text."""
    return value if isinstance(value, str) else ""


def event_object(event: StreamEvent) -> dict[str, Any] | None:
    """Return the JSON object in an event, or None. Bytes that are not UTF-8 are replaced."""
    found = read_object(event.data)
    if found is None:
        found = read_object(event.data.decode("utf-8", "replace").encode())
    return found
