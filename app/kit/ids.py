"""Ids: a prefix for the type of the object, and a UUIDv7, so that ids sort by time."""

import re

import uuid_utils

ID_LENGTH = 32  # hex digits behind the prefix


def new_id(prefix: str) -> str:
    """Return e.g. `tr_0193…` for the prefix `tr`."""
    return f"{prefix}_{uuid_utils.uuid7().hex}"


def id_pattern(prefix: str) -> str:
    """Return the regular expression every id of this prefix matches (for the OpenAPI document)."""
    return f"^{prefix}_[0-9a-f]{{{ID_LENGTH}}}$"


def is_id(prefix: str, text: str) -> bool:
    """Return whether `text` has the form of an id with this prefix."""
    return re.fullmatch(id_pattern(prefix), text) is not None
