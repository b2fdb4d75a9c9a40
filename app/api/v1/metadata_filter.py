"""The list's filter by metadata: `?metadata[team]=support&metadata[tier]=gold`, all to be met."""

from collections.abc import Iterable
from typing import Any

from app.errors import InvalidParameter
from app.speech.options import MAX_NOTES, NOTE_NAME_CHARS, NOTE_VALUE_CHARS

NAME = "metadata"

METADATA_FILTER: dict[str, Any] = {
    "name": NAME,
    "in": "query",
    "required": False,
    "style": "deepObject",
    "explode": True,
    "description": "Only with all of these notes, e.g. `metadata[team]=support`.",
    "schema": {
        "type": "object",
        "maxProperties": MAX_NOTES,
        "propertyNames": {"type": "string", "minLength": 1, "maxLength": NOTE_NAME_CHARS},
        "additionalProperties": {"type": "string", "maxLength": NOTE_VALUE_CHARS},
        "examples": [{"team": "support"}],
    },
}


def notes_in(query: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the notes to filter by. Raises InvalidParameter, which repeats nothing."""
    notes: dict[str, str] = {}
    for parameter, value in query:
        if not parameter.startswith(NAME):
            continue
        name = _name_in(parameter)
        if name in notes:
            raise _wrong("Each name may be filtered by once.")
        if len(value) > NOTE_VALUE_CHARS or "\x00" in value:
            raise _wrong(f"A value has at most {NOTE_VALUE_CHARS} characters, and no NUL.")
        notes[name] = value
    if len(notes) > MAX_NOTES:
        raise _wrong(f"At most {MAX_NOTES} names can be filtered by.")
    return notes


def _name_in(parameter: str) -> str:
    bracketed = parameter.removeprefix(NAME)
    name = bracketed[1:-1]
    if not (bracketed.startswith("[") and bracketed.endswith("]") and name):
        raise _wrong("It is written `metadata[name]=value`.")
    if len(name) > NOTE_NAME_CHARS or "\x00" in name:
        raise _wrong(f"A name has 1 to {NOTE_NAME_CHARS} characters, and no NUL.")
    return name


def _wrong(words: str) -> InvalidParameter:
    return InvalidParameter(f"The filter by `metadata` is not right. {words}", parameter=NAME)
