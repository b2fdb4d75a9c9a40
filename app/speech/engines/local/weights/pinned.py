"""The pinned models: the hashes of their files, and the sources of these files."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

PINS = Path(__file__).with_name("pinned.toml")
HEX_SHA256 = r"^[0-9a-f]{64}$"


class _Pin(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PinnedFile(_Pin):
    name: str
    size: int
    sha256: str = Field(pattern=HEX_SHA256)
    members: tuple[str, ...] = ()


class PinnedWheel(_Pin):
    project: str
    version: str
    sha256: str = Field(pattern=HEX_SHA256)
    size: int


class PinnedModel(_Pin):
    repo: str
    revision: str
    files: tuple[PinnedFile, ...]
    wheels: tuple[PinnedWheel, ...] = ()

    @property
    def folder(self) -> str:
        """The name of the cache folder. Each revision has its own."""
        return f"{self.repo.replace('/', '--')}-{self.revision[:12]}"

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)


@cache
def pinned_models() -> Mapping[str, PinnedModel]:
    """Return the models by the name in engine requests, such as `base`."""
    pins = tomllib.loads(PINS.read_text(encoding="utf-8"))
    return TypeAdapter(dict[str, PinnedModel]).validate_python(pins)
