"""Settings of audio: uploads, storage and decoding, and the fetching of URLs."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated

from pydantic import Field

from app.settings.group import GIB, HOUR, MIB, CommaSeparated, SettingsGroup


class AudioSettings(SettingsGroup):
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


class FetchSettings(SettingsGroup):
    enabled: bool = Field(default=True, description="Accept URLs of audio and fetch them.")
    allow_http: bool = Field(default=False, description="Allow http:// URLs as well as https://.")
    ports: Annotated[tuple[int, ...], CommaSeparated] = Field(
        (443, 80), description="Ports that a URL may name, separated by commas."
    )
    allow_addresses: Annotated[tuple[IPv4Network | IPv6Network, ...], CommaSeparated] = Field(
        (),
        description="Networks that URLs may lead to besides public addresses, in CIDR notation,"
        " separated by commas. All callers can then reach them.",
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
