"""The filter of a list by metadata, such as `?metadata[team]=support&metadata[tier]=gold`."""

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
    "description": "Only transcriptions with this metadata, e.g. `metadata[team]=support`.",
    "schema": {
        "type": "object",
        "maxProperties": MAX_METADATA_ENTRIES,
        "propertyNames": {"type": "string", "minLength": 1, "maxLength": METADATA_NAME_CHARS},
        "additionalProperties": {"type": "string", "maxLength": METADATA_VALUE_CHARS},
        "examples": [{"team": "support"}],
    },
}


def metadata_in(query: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the metadata to filter by. Raises InvalidParameter, which quotes no input."""
    wanted: dict[str, str] = {}
    for parameter, value in query:
        if not parameter.startswith(NAME):
            continue
        bracketed = parameter.removeprefix(NAME)
        name = bracketed[1:-1]
        if not (bracketed.startswith("[") and bracketed.endswith("]") and name):
            raise _invalid_filter("Write it as `metadata[name]=value`.")
        if len(name) > METADATA_NAME_CHARS or not is_storable(name):
            raise _invalid_filter(f"A name has 1 to {METADATA_NAME_CHARS} characters and no NUL.")
        if name in wanted:
            raise _invalid_filter("Give each name only once.")
        if len(value) > METADATA_VALUE_CHARS or not is_storable(value):
            raise _invalid_filter(f"A value has at most {METADATA_VALUE_CHARS} characters, no NUL.")
        wanted[name] = value
    if len(wanted) > MAX_METADATA_ENTRIES:
        raise _invalid_filter(f"It can have at most {MAX_METADATA_ENTRIES} names.")
    return wanted


def _invalid_filter(reason: str) -> InvalidParameter:
    return InvalidParameter(f"The filter by `metadata` is not valid. {reason}", parameter=NAME)
