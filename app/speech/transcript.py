"""Our one truth of a result: what was said, when, in which language, and how we know.

Times are seconds from the start of the recording. `timing` says where they come from:
`upstream` (the engine reported them) or `estimated` (from our own cuts in pauses). `channel` is
there where a recording's channels were transcribed one by one, counted from 0.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Timing = Literal["upstream", "estimated"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Word(_Value):
    start: float
    end: float
    text: str
    speaker: str | None = None


class Segment(_Value):
    start: float
    end: float
    text: str
    timing: Timing = "estimated"
    language: str | None = None
    emotion: str | None = None
    speaker: str | None = None
    channel: int | None = None
    words: tuple[Word, ...] = ()


class Transcript(_Value):
    """The whole of a transcription. `coverage` is the share of speech that was transcribed."""

    text: str
    language: str | None = None
    emotion: str | None = None
    segments: tuple[Segment, ...] = ()
    coverage: float = Field(1.0, ge=0.0, le=1.0)
