"""The base of the settings of one domain."""

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

MIB = 1 << 20
GIB = 1 << 30
HOUR = 3600


def _split(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return [item.strip() for item in value.split(",") if item.strip()]


CommaSeparated = BeforeValidator(_split)
"""Parses a list in the environment from values separated by commas."""


class SettingsGroup(BaseModel):
    """Settings of one domain, with a description of every field."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
