"""What a caller wants, whichever wire it came over."""

from dataclasses import dataclass, field
from typing import Any

from tests.twin.models import Model


@dataclass(frozen=True)
class Order:
    """A request that passed the checks of its wire."""

    model: Model
    place: str = ""
    upload: bytes | None = None
    raw_rate: int | None = None
    language: str | None = None
    context: str = ""
    options: dict[str, Any] = field(default_factory=dict)
