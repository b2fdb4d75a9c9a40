"""Examples of the OpenAPI document: one file per answer, in the format of its media type."""

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def example(name: str) -> Any:
    """Return the example in file `name`: parsed if it is JSON, else its text."""
    text = (files(__package__) / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else text


def json_answer(description: str, name: str) -> dict[str, Any]:
    """Return the entry of `responses=` for a JSON answer with the example in file `name`."""
    return {"description": description, "content": {"application/json": {"example": example(name)}}}
