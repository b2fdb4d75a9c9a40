"""A valid request, independent of its wire."""

from dataclasses import dataclass, field, replace
from typing import Any

from tests.simulator.models import Model


@dataclass(frozen=True)
class Order:
    """A request that passed the checks of its wire.

    `channels`: the channels of a task, one after the other; `channel` is the current one.
    """

    model: Model
    place: str = ""
    upload: bytes | None = None
    raw_rate: int | None = None
    language: str | None = None
    context: str = ""
    channels: tuple[int, ...] = (0,)
    channel: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def on(self, channel: int) -> "Order":
        """Return the request for one channel."""
        return replace(self, channel=channel)
