"""Settings of the database and of access."""

from typing import Annotated

from pydantic import Field, SecretStr

from app.settings.group import CommaSeparated, SettingsGroup


class DatabaseSettings(SettingsGroup):
    url: str = Field(
        "",
        description="postgresql://user:password@host/name or sqlite:///path. Empty: SQLite in "
        "data_dir.",
    )
    reader_threads: int = Field(4, ge=1, le=64, description="Number of threads that read SQLite.")
    pool_size: int = Field(
        10, ge=1, le=200, description="Number of PostgreSQL connections of this process."
    )


class AccessSettings(SettingsGroup):
    peppers: Annotated[list[SecretStr], CommaSeparated] = Field(
        default_factory=list,
        description="Secrets for key hashes, separated by commas, newest first. Empty: created in "
        "data_dir.",
    )
