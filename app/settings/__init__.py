"""The only reader of the environment: one model per domain, a description of every field.

Every setting is a variable `GATEWAY_<DOMAIN>__<FIELD>`, or a line in the file `.env`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.settings.audio import AudioSettings, FetchSettings
from app.settings.dashscope import AccountSettings, DashScopeSettings
from app.settings.database import AccessSettings, DatabaseSettings
from app.settings.faults import describe_faults
from app.settings.jobs import JobSettings, StreamSettings
from app.settings.names import VariableCheck, setting_fields
from app.settings.provider_key import ProviderKeySource
from app.settings.server import LogSettings, ServerSettings
from app.settings.speech import LocalEngineSettings, OpenAISettings, SpeechSettings

__all__ = [
    "AccessSettings",
    "AccountSettings",
    "AudioSettings",
    "DashScopeSettings",
    "DatabaseSettings",
    "FetchSettings",
    "JobSettings",
    "LocalEngineSettings",
    "LogSettings",
    "OpenAISettings",
    "ServerSettings",
    "Settings",
    "SpeechSettings",
    "StreamSettings",
    "faults_of",
]


class Settings(BaseSettings):
    """All settings of one process. Raises pydantic.ValidationError on a wrong or unknown one."""

    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_",
        env_nested_delimiter="__",
        enable_decoding=False,  # lists are values separated by commas, never JSON
        env_file=".env",
        env_file_encoding="utf-8-sig",  # editors on Windows write a byte order mark
        extra="ignore",
        frozen=True,
    )

    data_dir: Path = Field(Path("data"), description="Folder for the database, audio and secrets.")
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    access: AccessSettings = AccessSettings()
    audio: AudioSettings = AudioSettings()
    fetch: FetchSettings = FetchSettings()
    speech: SpeechSettings = SpeechSettings()
    local: LocalEngineSettings = LocalEngineSettings()
    dashscope: DashScopeSettings = DashScopeSettings()
    openai: OpenAISettings = OpenAISettings()
    jobs: JobSettings = JobSettings()
    stream: StreamSettings = StreamSettings()
    log: LogSettings = LogSettings()

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            fault = PydanticCustomError(
                "settings_file",
                "The settings file .env cannot be read: {reason}.",
                {"reason": reason},
            )
            faults = [InitErrorDetails(type=fault, loc=(), input=None)]
            raise ValidationError.from_exception_data("Settings", faults) from error

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the provider's key variable last: the gateway's own variables take precedence."""
        provider_key = ProviderKeySource(settings_cls, dotenv_settings)
        check = VariableCheck(settings_cls, dotenv_settings)
        ours = (init_settings, env_settings, dotenv_settings, file_secret_settings)
        return check, *ours, provider_key

    @property
    def default_model(self) -> str:
        """The model used when a request names none."""
        by_key = "qwen3-asr-flash" if self.dashscope.api_key.get_secret_value() else "local/base"
        return self.speech.default_model or by_key

    @property
    def database_url(self) -> str:
        """The database's address: as set, else a SQLite file inside data_dir."""
        return self.database.url or f"sqlite:///{self.data_dir / 'gateway.db'}"


def faults_of(error: ValidationError) -> Iterator[str]:
    """Return a sentence for each wrong setting, without its value."""
    return describe_faults(error, setting_fields(Settings))
