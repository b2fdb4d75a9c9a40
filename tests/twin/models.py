"""Which models exist where, and what each of them is: the tables of protocol 1.1, 2.1, 2.4, 2.6."""

import re
from dataclasses import dataclass
from typing import Literal

Family = Literal["qwen3", "input-audio", "async", "retired"]

_QWEN3 = ("qwen3-asr-flash", "qwen3-asr-flash-2025-09-08", "qwen3-asr-flash-2026-02-10")
_QWEN3_US = (*_QWEN3, "qwen3-asr-flash-us", "qwen3-asr-flash-2025-09-08-us")
_INPUT_AUDIO = ("qwen-audio-3.0-asr-flash", "qwen-audio-3.1-asr-flash", "fun-asr-flash-2026-06-15")
_ASYNC = (
    "qwen3-asr-flash-filetrans",
    "qwen3-asr-flash-filetrans-2025-11-17",
    "qwen-audio-3.0-asr-flash-filetrans",
    "qwen-audio-3.1-asr-flash-filetrans",
    "fun-asr",
    "fun-asr-2025-11-07",
    "fun-asr-2025-08-25",
    "fun-asr-mtl",
    "fun-asr-mtl-2025-08-25",
)
_PARAFORMER = tuple(f"paraformer-{one}" for one in ("v2", "v1", "mtl-v1", "8k-v2", "8k-v1"))
RETIRED = ("qwen-audio-asr", "qwen-audio-asr-latest", "qwen-audio-asr-2024-12-04")
IN_REGION = {
    "cn-beijing": {*_QWEN3, *_INPUT_AUDIO, *_ASYNC, *_PARAFORMER},
    "ap-southeast-1": {*_QWEN3, *_INPUT_AUDIO, *_ASYNC},
    "us-east-1": {*_QWEN3_US},
}
NO_COMPATIBLE_MODE = {"us-east-1"}
DATA_URI_BYTES = 10_485_760
DATA_URI_BYTES_31 = 20_971_520
STRING_CHARACTERS_31 = 28_000_000
FILE_BYTES = 10 * 1024 * 1024
FILE_BYTES_31 = 2 * 1024**3
SECONDS = 300.0


@dataclass(frozen=True)
class Model:
    """A model as a region knows it."""

    name: str
    family: Family
    is_present: bool

    @property
    def is_31(self) -> bool:
        return self.name.startswith("qwen-audio-3.1")

    @property
    def requests_per_minute(self) -> int:
        return 100 if self.family in {"qwen3", "retired"} else 600

    @property
    def data_uri_bytes(self) -> int:
        return DATA_URI_BYTES_31 if self.is_31 else DATA_URI_BYTES

    @property
    def file_bytes(self) -> int:
        return FILE_BYTES_31 if self.is_31 else FILE_BYTES


def family_of(name: str) -> Family:
    name = name.lower()
    if name.startswith("qwen-audio-asr"):
        return "retired"
    if "filetrans" in name:
        return "async"
    if name.startswith("fun-asr-flash") or (name.startswith("qwen-audio") and "asr-flash" in name):
        return "input-audio"
    return "qwen3" if re.match(r"qwen3-asr-flash(-|$)", name) else "async"


def find(name: str, region: str, revived: frozenset[str]) -> Model:
    """Return the model of that name; `revived` are the retired ones this twin still runs."""
    return Model(name, family_of(name), name in IN_REGION.get(region, set()) | revived)
