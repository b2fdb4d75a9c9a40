"""The hosts of the simulator, each with a port and keys of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SELF_HOSTED = "vllm"


@dataclass(frozen=True)
class Region:
    """A DashScope region, or a vLLM server under the name `vllm`."""

    name: str
    keys: frozenset[str] | None

    @property
    def is_vllm(self) -> bool:
        return self.name == SELF_HOSTED

    @property
    def is_sold(self) -> bool:
        """Whether the provider's rate limits apply, and calls are billed."""
        return not self.is_vllm


STORE = Region("store", None)


def regions_of(names: Sequence[str], keys: Mapping[str, Sequence[str]]) -> list[Region]:
    """Return the regions, with the key `sk-simulator-NAME` where none is given."""
    return [_region(name, keys.get(name)) for name in names]


def _region(name: str, keys: Sequence[str] | None) -> Region:
    if keys is None and name == SELF_HOSTED:
        return Region(name, None)
    return Region(name, frozenset(keys or [f"sk-simulator-{name}"]))
