"""The places of a DashScope key: our settings, and the places that the vendor's tools use."""

import os
import re
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource

OUR_VARIABLE = "GATEWAY_DASHSCOPE__API_KEY"
VENDORS_VARIABLE = "DASHSCOPE_API_KEY"
VENDORS_FILE = Path("~/.alibabacloud/credentials")
_VENDORS_LINE = re.compile(r"^\s*dashscope_api_key\s*[=:]\s*(\S+)", re.MULTILINE | re.IGNORECASE)


class VendorsKey(PydanticBaseSettingsSource):
    """The key where the vendor's own tools look for it, when no setting of ours names one."""

    def __init__(self, settings: type[BaseSettings], dotenv: PydanticBaseSettingsSource) -> None:
        super().__init__(settings)
        self._dotenv = dotenv.env_vars if isinstance(dotenv, DotEnvSettingsSource) else {}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Find nothing by a field's name; see __call__."""
        return field.default, field_name, False

    def __call__(self) -> dict[str, Any]:
        key = (
            os.environ.get(VENDORS_VARIABLE)
            or self._dotenv.get(VENDORS_VARIABLE.lower())
            or _in_vendors_file()
        )
        return {"dashscope": {"api_key": key.strip()}} if key else {}


def _in_vendors_file() -> str | None:
    try:
        content = VENDORS_FILE.expanduser().read_text(encoding="utf-8", errors="replace")
    except (OSError, RuntimeError):  # there is none, or no home
        return None
    found = _VENDORS_LINE.search(content)
    return found.group(1).strip("\"'") if found else None


def where_key_is(settings: BaseSettings) -> str:
    """Return the place in which the DashScope key was found; places are searched in order."""
    environ = {name.upper() for name, value in os.environ.items() if value}
    written = DotEnvSettingsSource(type(settings)).env_vars
    for name in (OUR_VARIABLE, VENDORS_VARIABLE):
        if name in environ:
            return name
        if written.get(name.lower()):
            return f"{name} in .env"
    return f"dashscope_api_key in {VENDORS_FILE}"
