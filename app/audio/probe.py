"""The facts about an audio file that are known before it is decoded."""

from app.errors import AudioTooLong
from app.kit.records import dataclass


@dataclass(frozen=True, slots=True)
class Probe:
    """`seconds` is None where the header does not say, `channels` 0 where the layout is unknown.

    `exact`: the whole file was read, it is complete, and `seconds` is exact.
    `cut_short`: by its own figures the end of the file is missing.
    """

    format: str
    codec: str
    channels: int
    sample_rate: int
    seconds: float | None
    exact: bool = False
    cut_short: bool = False


def too_long(seconds: float, max_seconds: float) -> AudioTooLong:
    return AudioTooLong(
        f"The audio is {seconds:,.0f} s long. The limit is {max_seconds:,.0f} s.",
        seconds=round(seconds, 3),
        max_seconds=max_seconds,
    )
