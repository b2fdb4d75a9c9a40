"""The models of each region and their properties: the tables of protocol 1.1, 2.1, 2.4, 2.6."""

import re
from dataclasses import dataclass
from typing import Literal

Family = Literal["qwen3", "input-audio", "async", "omni", "retired"]

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
_OMNI = (
    "qwen3-omni-flash",
    "qwen3-omni-flash-2025-12-01",
    "qwen3-omni-flash-2025-09-15",
    "qwen3.5-omni-flash",
    "qwen3.5-omni-plus",
    "qwen3.8-omni-flash",
    "qwen-omni-turbo",
)
RETIRED = ("qwen-audio-asr", "qwen-audio-asr-latest", "qwen-audio-asr-2024-12-04")
IN_REGION = {
    "cn-beijing": {*_QWEN3, *_INPUT_AUDIO, *_ASYNC, *_PARAFORMER, *_OMNI},
    "ap-southeast-1": {*_QWEN3, *_INPUT_AUDIO, *_ASYNC, *_OMNI},
    "us-east-1": {*_QWEN3_US},
}
NO_COMPATIBLE_MODE = {"us-east-1"}
DATA_URI_BYTES = 10_485_760
DATA_URI_BYTES_31 = 20_971_520
STRING_CHARACTERS_31 = 28_000_000
FILE_BYTES = 10 * 1024 * 1024
FILE_BYTES_31 = 2 * 1024**3
SECONDS = 300.0
TASK_FILE_BYTES = 2 * 1024**3
TASK_SECONDS = 12 * 3600.0
CONTEXT_TOKENS = 10_000
OMNI_BYTES = 100 * 1024 * 1024
_OMNI_SECONDS = {"qwen-omni-turbo": 180.0, "qwen3.5-omni": 3 * 3600.0}
_OMNI_TOKENS = {"qwen-omni-turbo": 25.0, "qwen3.8-omni": 7.0}
_RPM = {
    "qwen3-asr-flash": 100,
    "qwen-audio-asr": 100,
    "fun-asr-mtl": 600,
    "paraformer-v2": 1_200,
    "paraformer-8k-v2": 1_200,
}
_RPM_SINGAPORE = {"fun-asr-mtl": 100}


@dataclass(frozen=True)
class Model:
    """A model as a region knows it."""

    name: str
    family: Family
    is_present: bool
    region: str = ""

    @property
    def is_31(self) -> bool:
        return self.name.startswith("qwen-audio-3.1")

    @property
    def is_filetrans(self) -> bool:
        """Whether it is qwen3's own asynchronous model: one file, seconds, language, emotion."""
        return self.family == "async" and self.name.lower().startswith("qwen3-asr-flash")

    @property
    def is_3x(self) -> bool:
        return self.name.startswith("qwen-audio-3.")

    @property
    def is_billed_by_speech(self) -> bool:
        return self.family == "async" and self.name.startswith(("fun-asr", "paraformer"))

    @property
    def requests_per_minute(self) -> int:
        known = {**_RPM, **(_RPM_SINGAPORE if self.region == "ap-southeast-1" else {})}
        return next((rpm for name, rpm in known.items() if self.name.startswith(name)), 600)

    @property
    def data_uri_bytes(self) -> int:
        return DATA_URI_BYTES_31 if self.is_31 else DATA_URI_BYTES

    @property
    def tokens_per_second(self) -> float:
        """Omni's tokens per second of audio. For qwen3.5 nothing is documented."""
        return next((n for name, n in _OMNI_TOKENS.items() if self.name.startswith(name)), 12.5)

    @property
    def thinks(self) -> bool:
        return self.name.startswith("qwen3.8-omni")

    @property
    def seconds(self) -> float:
        if self.family == "omni":
            known = _OMNI_SECONDS.items()
            return next((most for name, most in known if self.name.startswith(name)), 1200.0)
        return TASK_SECONDS if self.family == "async" else SECONDS

    @property
    def file_bytes(self) -> int:
        if self.family == "async":
            return TASK_FILE_BYTES
        if self.family == "omni" and not self.name.startswith("qwen-omni-turbo"):
            return OMNI_BYTES
        return FILE_BYTES_31 if self.is_31 else FILE_BYTES


def family_of(name: str) -> Family:
    name = name.lower()
    if name.startswith("qwen-audio-asr"):
        return "retired"
    if "filetrans" in name:
        return "async"
    if "-omni-" in name:
        return "omni"
    if name.startswith("fun-asr-flash") or (name.startswith("qwen-audio") and "asr-flash" in name):
        return "input-audio"
    return "qwen3" if re.match(r"qwen3-asr-flash(-|$)", name) else "async"


def find(name: str, region: str, revived: frozenset[str]) -> Model:
    """Return the model of that name. `revived` are retired models that still run here."""
    present = IN_REGION.get(region, set()) | revived
    return Model(name, family_of(name), name in present, region)
