"""Settings of the HTTP server and of the log."""

from typing import Annotated, Literal

from pydantic import Field

from app.kit.origins import Origin
from app.settings.group import CommaSeparated, SettingsGroup


class ServerSettings(SettingsGroup):
    host: str = Field(
        "127.0.0.1",
        description="Address to listen on. `::` takes IPv6 and IPv4, `0.0.0.0` IPv4 only.",
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free port.")
    header_timeout_seconds: float = Field(
        10.0, gt=0, description="Seconds a client may take to send the request headers."
    )
    max_header_bytes: int = Field(
        32 * 1024, ge=1024, description="Maximum bytes of request headers."
    )
    keep_alive_seconds: int = Field(
        75,
        ge=1,
        description="Seconds that an idle connection stays open. More than the idle timeout of "
        "the load balancer in front.",
    )
    write_timeout_seconds: float = Field(
        60.0,
        gt=0,
        description="Seconds after which a connection is closed whose client does not read.",
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
    cors_origins: Annotated[tuple[Origin, ...], CommaSeparated] = Field(
        (),
        description="Origins of web pages that may call the gateway, separated by commas, e.g. "
        "https://app.example. * is every page; keys are still required.",
    )
    cors_headers: Annotated[tuple[str, ...], CommaSeparated] = Field(
        (),
        description="Further request headers that those web pages may send, separated by commas. "
        "The usual ones are allowed.",
    )


class LogSettings(SettingsGroup):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level that is logged."
    )
    format: Literal["json", "console"] = Field(
        "console", description="json: one JSON object per line. console: text."
    )
