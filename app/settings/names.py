"""The names of all settings as environment variables, and variables that are no setting."""

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource

PREFIX = "GATEWAY_"
CLIENT_PREFIX = "ASR_GATEWAY_"  # of the command line's own variables
UNKNOWN_SETTING = "unknown_setting"
_MIN_SIMILARITY = 0.75
_MAX_SUGGESTIONS = 3
_ACCOUNT = f"{PREFIX}DASHSCOPE_ACCOUNTS_"
# Kubernetes and Docker describe other services in such variables.
_SERVICE = re.compile(r"\w+_SERVICE_(HOST|PORT(_\w+)?)|\w+_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")


class VariableCheck(PydanticBaseSettingsSource):
    """A source without values: it refuses variables that begin like a setting and are none."""

    def __init__(self, settings: type[BaseSettings], dotenv: PydanticBaseSettingsSource) -> None:
        super().__init__(settings)
        self._dotenv = dotenv.env_vars if isinstance(dotenv, DotEnvSettingsSource) else {}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Find no field; see __call__."""
        return field.default, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return no values. Raises ValidationError with a fault for each unknown variable."""
        fields = setting_fields(self.settings_cls)
        faults = [
            InitErrorDetails(
                type=PydanticCustomError(UNKNOWN_SETTING, "{sentence}", {"sentence": sentence}),
                loc=(),
                input=None,
            )
            for variables, place in ((os.environ, ""), (self._dotenv, " in .env"))
            for sentence in _unknown_variables(variables, place, fields)
        ]
        if faults:
            raise ValidationError.from_exception_data("Settings", faults, hide_input=True)
        return {}


def setting_fields(model: type[BaseModel], prefix: str = PREFIX) -> dict[str, FieldInfo]:
    """Return every field by the name of its variable; `*` stands for the name of an account."""
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        variable = prefix + name.upper()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= setting_fields(field.annotation, f"{variable}__")
            continue
        found[variable] = field
        for inner in getattr(field.annotation, "__args__", ()):  # a dict of models
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                found |= setting_fields(inner, f"{variable}__*__")
    return found


def _unknown_variables(
    variables: Mapping[str, str | None], place: str, fields: Mapping[str, FieldInfo]
) -> Iterator[str]:
    """Yield a sentence for each variable that begins like a setting and is none."""
    known = [re.compile(re.escape(name).replace(r"\*", "[^_](?:_?[^_])*")) for name in fields]
    for name in sorted(variable.upper() for variable in variables):
        value = variables.get(name) or variables.get(name.lower()) or ""
        if _SERVICE.fullmatch(name) or _SERVICE_URL.match(value):
            continue
        if name.startswith(CLIENT_PREFIX):
            # Others are no business of ours, but a setting under this prefix would be ignored.
            ours = PREFIX + name.removeprefix(CLIENT_PREFIX)
            if ours in fields:
                yield f"{name}{place} is not a setting; did you mean {ours}?"
        elif name.startswith(PREFIX) and not any(one.fullmatch(name) for one in known):
            guesses = _similar_names(name, list(fields))
            if guesses:
                yield f"{name}{place} is not a setting; did you mean {' or '.join(guesses)}?"
            else:
                yield f"{name}{place} is not a setting; the file .env.example lists all of them."


def _similar_names(name: str, known: list[str]) -> list[str]:
    """Return the settings that a wrong name may stand for, the most likely ones first."""
    plain = {_plain(one): one for one in known if "*" not in one}
    given = _plain(name)
    if given.startswith(_ACCOUNT):
        return _similar_account_names(given.removeprefix(_ACCOUNT), known)
    if given in plain:
        return [plain[given]]
    if members := [one for one in known if "*" not in one and one.startswith(f"{given}__")]:
        return members[:_MAX_SUGGESTIONS]
    rest = given.removeprefix(PREFIX)
    ends = [one for short, one in plain.items() if short.endswith(f"_{rest}")]
    if ends:
        return ends[:_MAX_SUGGESTIONS]
    if close := get_close_matches(given, plain, 1, _MIN_SIMILARITY):
        return [plain[close[0]]]
    # The field alone: its group is wrong or missing.
    tails = {one.rpartition("__")[2]: one for one in reversed(known) if "*" not in one}
    found = [one for tail, one in tails.items() if rest.endswith(f"_{tail}")]
    if not found:
        found = [tails[tail] for tail in get_close_matches(rest, tails, 1, _MIN_SIMILARITY)]
    return found[:_MAX_SUGGESTIONS]


def _similar_account_names(given: str, known: list[str]) -> list[str]:
    """Return the setting of an account that the end of a wrong name may stand for."""
    for setting in known:
        group, _, field = setting.partition("*__")
        if field and given.endswith(f"_{field}"):
            return [f"{group}{given.removesuffix(f'_{field}')}__{field}"]
    account, _, rest = given.partition("_")
    fields = {setting.rpartition("*__")[2]: setting for setting in known if "*" in setting}
    close = get_close_matches(rest or "API_KEY", fields, 1, _MIN_SIMILARITY)
    return [fields[field].replace("*", account) for field in close]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name)
