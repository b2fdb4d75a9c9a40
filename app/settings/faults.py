"""A sentence for each wrong setting: the variable's name and the values that it takes."""

import re
from collections.abc import Iterator, Mapping

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from app.settings.names import PREFIX, UNKNOWN_SETTING

_WHOLE_NUMBER = "{name} must be a whole number{unit}{example}."
_NUMBER = "{name} must be a number{unit}{example}."
_BOOLEAN = "{name} must be true or false."
_NETWORKS = "{name} must be networks in CIDR notation, separated by commas, e.g. 10.0.0.0/8."
_GROUP = "{name} is not a setting; it has settings of its own, {name}__..."
_UNKNOWN = "{name} is not a setting; the file .env.example lists all of them."
_MESSAGE = "{name}: {message}."

# The validator's kinds of faults. Those that are missing here are sentences, or are new.
_TEMPLATES = {
    UNKNOWN_SETTING: "{message}",
    "settings_file": "{message}",
    **dict.fromkeys(
        ("int_parsing", "int_from_float", "int_parsing_size", "int_type"), _WHOLE_NUMBER
    ),
    **dict.fromkeys(("float_parsing", "finite_number", "float_type"), _NUMBER),
    **dict.fromkeys(("bool_parsing", "bool_type"), _BOOLEAN),
    **dict.fromkeys(("ip_v4_network", "ip_v6_network"), _NETWORKS),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), _GROUP),
    "extra_forbidden": _UNKNOWN,
    "literal_error": "{name} must be {expected}.",
    "string_pattern_mismatch": "{name} {pattern}.",
    "greater_than_equal": "{name} must be at least {ge:.12g}.",
    "greater_than": "{name} must be more than {gt:.12g}.",
    "less_than_equal": "{name} must be at most {le:.12g}.",
    "less_than": "{name} must be less than {lt:.12g}.",
}
_UNITS = {"SECONDS": " of seconds", "BYTES": " of bytes"}
_PATTERNS = {
    "URL": "must be an address such as https://asr.example.org",
    "WORKSPACE": "must consist of letters, digits and hyphens",
    "ACCOUNTS": "has an account name that is not allowed; it takes up to 20 lower-case letters, "
    "digits, hyphens and underscores",
}


def describe_faults(error: ValidationError, fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    """Yield a sentence for each wrong setting, without its value; `fields` by variable."""
    sentences = (
        _sentence(fault, fields) for fault in error.errors(include_input=False, include_url=False)
    )
    yield from dict.fromkeys(sentences)  # one for each setting: a list has a fault for each item


def _sentence(fault: ErrorDetails, fields: Mapping[str, FieldInfo]) -> str:
    steps = [step for step in fault["loc"] if isinstance(step, str) and step != "[key]"]
    while len(steps) > 1 and not re.fullmatch(r"[a-z][a-z0-9_-]*", steps[-1]):
        steps.pop()  # a type of a union, or an account's name that is not allowed
    name = PREFIX + "__".join(steps).upper()
    context = fault.get("ctx", {})
    patterns = (words for end, words in _PATTERNS.items() if name.endswith(end))
    unit = "" if name.endswith("PER_SECOND") else _UNITS.get(name.rpartition("_")[2], "")
    field = fields.get(name)
    default = field.get_default(call_default_factory=True) if field else None
    if isinstance(default, tuple):
        default = next(iter(default), None)
    return _TEMPLATES.get(fault["type"], _MESSAGE).format_map(
        {
            **context,
            "name": name,
            "message": fault["msg"].removeprefix("Value error, "),
            "expected": str(context.get("expected")).replace("'", ""),
            "pattern": next(patterns, "has a value that is not allowed"),
            "unit": unit,
            "example": f", e.g. {default:.12g}" if isinstance(default, int | float) else "",
        }
    )
