"""The list's filter by metadata: `?metadata[team]=support&metadata[tier]=gold`, all to be met."""

from collections.abc import Iterable
from typing import Any

from app.errors import InvalidParameter
from app.kit.text import is_storable
from app.speech.options import MAX_METADATA_ENTRIES, METADATA_NAME_CHARS, METADATA_VALUE_CHARS

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
        "maxProperties": MAX_METADATA_ENTRIES,
        "propertyNames": {"type": "string", "minLength": 1, "maxLength": METADATA_NAME_CHARS},
        "additionalProperties": {"type": "string", "maxLength": METADATA_VALUE_CHARS},
        "examples": [{"team": "support"}],
    },
}


def metadata_in(query: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the notes to filter by. Raises InvalidParameter, which repeats nothing."""
    wanted: dict[str, str] = {}
    for parameter, value in query:
        if not parameter.startswith(NAME):
            continue
        name = _name_in(parameter)
        if name in wanted:
            raise _wrong("Each name may be filtered by once.")
        if len(value) > METADATA_VALUE_CHARS or not is_storable(value):
            raise _wrong(f"A value has at most {METADATA_VALUE_CHARS} characters, and no NUL.")
        wanted[name] = value
    if len(wanted) > MAX_METADATA_ENTRIES:
        raise _wrong(f"At most {MAX_METADATA_ENTRIES} names can be filtered by.")
    return wanted


def _name_in(parameter: str) -> str:
    bracketed = parameter.removeprefix(NAME)
    name = bracketed[1:-1]
    if not (bracketed.startswith("[") and bracketed.endswith("]") and name):
        raise _wrong("It is written `metadata[name]=value`.")
    if len(name) > METADATA_NAME_CHARS or not is_storable(name):
        raise _wrong(f"A name has 1 to {METADATA_NAME_CHARS} characters, and no NUL.")
    return name


def _wrong(words: str) -> InvalidParameter:
    return InvalidParameter(f"The filter by `metadata` is not right. {words}", parameter=NAME)
