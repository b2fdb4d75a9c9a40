"""The places of a DashScope key: our settings, and the places that the provider's tools use."""

import os
import re
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource

OUR_VARIABLE = "GATEWAY_DASHSCOPE__API_KEY"
PROVIDER_VARIABLE = "DASHSCOPE_API_KEY"
PROVIDER_FILE = Path("~/.alibabacloud/credentials")
_KEY_LINE = re.compile(r"^\s*dashscope_api_key\s*[=:]\s*(\S+)", re.MULTILINE | re.IGNORECASE)


class ProviderKeySource(PydanticBaseSettingsSource):
    """The key in the places of the provider's own tools, used if no setting of ours names one."""

    def __init__(self, settings: type[BaseSettings], dotenv: PydanticBaseSettingsSource) -> None:
        super().__init__(settings)
        self._dotenv = dotenv.env_vars if isinstance(dotenv, DotEnvSettingsSource) else {}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Find no single field; see __call__."""
        return field.default, field_name, False

    def __call__(self) -> dict[str, Any]:
        key = os.environ.get(PROVIDER_VARIABLE) or self._dotenv.get(PROVIDER_VARIABLE.lower())
        if not key:
            try:
                content = PROVIDER_FILE.expanduser().read_text(encoding="utf-8", errors="replace")
            except (OSError, RuntimeError):  # there is no file, or no home folder
                content = ""
            found = _KEY_LINE.search(content)
            key = found.group(1).strip("\"'") if found else ""
        return {"dashscope": {"api_key": key.strip()}} if key else {}


def where_key_is(settings: BaseSettings) -> str:
    """Return the place in which the DashScope key was found; places are searched in order."""
    environ = {name.upper() for name, value in os.environ.items() if value}
    written = DotEnvSettingsSource(type(settings)).env_vars
    for name in (OUR_VARIABLE, PROVIDER_VARIABLE):
        if name in environ:
            return name
        if written.get(name.lower()):
            return f"{name} in .env"
    return f"dashscope_api_key in {PROVIDER_FILE}"
