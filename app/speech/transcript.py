"""The result of a transcription: text, segments, words, language and emotion.

Times are seconds from the start of the audio. `timing` is their origin: `upstream` if the engine
gave them, `estimated` if they come from the cuts of the audio. `channel` is set where channels were
transcribed one by one, counted from 0.
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
    """The transcript of an audio. `coverage` is the share of its speech that was transcribed."""

    text: str
    language: str | None = None
    emotion: str | None = None
    segments: tuple[Segment, ...] = ()
    coverage: float = Field(1.0, ge=0.0, le=1.0)
