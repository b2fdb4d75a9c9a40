"""The schemas of the native API's answers, one model for each answer."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from app.api.http.problems import EXPECTED_MOMENT
from app.kit.clock import to_rfc3339
from app.kit.ids import id_pattern
from app.speech.transcript import Segment

Status = Literal["queued", "processing", "completed", "failed", "cancelled"]
_BEGINS_WITH_A_DAY = re.compile(r"\d{4}-\d\d-\d\d[Tt ]", re.ASCII)
_YEARS = range(1970, 9999)
Moment = Annotated[datetime, PlainSerializer(to_rfc3339, return_type=str, when_used="json")]


def _parse_moment(value: Any, parse: ValidatorFunctionWrapHandler) -> datetime:
    # Pydantic accepts numbers in strings as well.
    if isinstance(value, str) and not _BEGINS_WITH_A_DAY.match(value):
        raise PydanticCustomError("moment", EXPECTED_MOMENT)
    moment: datetime = parse(value)
    if moment.year not in _YEARS:  # sums of other moments could overflow
        raise ValueError("too far from now")
    return moment.astimezone(UTC)


AskedMoment = Annotated[AwareDatetime, WrapValidator(_parse_moment)]
TR_ID = Annotated[str, Field(pattern=id_pattern("tr"), examples=["tr_" + "0" * 32])]


class Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Cost(Schema):
    """`amount` is exact; `nano` is the same in billionths of the currency."""

    amount: str = Field(examples=["0.00264"])
    currency: str = Field(examples=["CNY"], min_length=3, max_length=3)
    nano: int = Field(examples=[2640000])


class Usage(Schema):
    """Used seconds and tokens, as reported by the engine, else as measured by the gateway."""

    seconds: float = Field(examples=[12.0])
    tokens: int | None = None
    estimated: bool = Field(
        False,  # noqa: FBT003 - a field's default
        description="Whether the gateway computed a part of the usage, because the engine "
        "reported none.",
    )


class AudioOut(Schema):
    id: str
    seconds: float | None = Field(description="Null while the length is unknown.")
    format: str = Field(examples=["mp3"])
    channels: int
    sample_rate: int
    bytes: int


class PlanOut(Schema):
    """How the recording is transcribed, and why."""

    kind: Literal["direct", "split", "filetrans"]
    part_seconds: int
    reason: str
    as_is: bool = Field(False, description="Whether the bytes are sent as they were received.")  # noqa: FBT003
    audio_source: (
        Literal["client_url", "presigned_url", "gateway_url", "provider_upload"] | None
    ) = Field(
        None,
        description="For `filetrans`: the URL from which the speech service reads the recording: "
        "that of the request, a presigned one of the object store, one of this gateway, or that "
        "of a temporary upload to the service.",
    )


class WarningOut(Schema):
    """A warning for the caller: an ignored option, a damaged file, a gap."""

    code: str
    detail: str
    option: str | None = None
    start: float | None = Field(None, description="Where in the recording, in seconds.")
    end: float | None = None


class ErrorOut(Schema):
    code: str
    detail: str
    retryable: bool = False


class TranscriptionOut(Schema):
    """A transcription in any status. `text` is set once it is completed.

    During a retry `text` is null. If the retry fails, the previous text is returned again.
    """

    id: TR_ID
    status: Status
    text: str | None = None
    language: str | None = None
    emotion: str | None = None
    segments: Sequence[Segment] = ()
    model: str
    engine: str
    mode: str
    plan: PlanOut
    task_id: str | None = Field(
        None, description="Id of the task at the speech service; not in lists."
    )
    audio: AudioOut | None = Field(
        None, description="The recording; null while it has not been fetched from its URL."
    )
    usage: Usage
    cost: Cost
    coverage: float | None = Field(None, description="Share of the speech that was transcribed.")
    progress: float = Field(ge=0, le=1, description="Share of the recording that was transcribed.")
    warnings: Sequence[WarningOut] = ()
    error: ErrorOut | None = None
    reference: str | None = None
    metadata: dict[str, str] | None = None
    raw: Sequence[Any] | None = None
    created_at: Moment
    started_at: Moment | None = None
    completed_at: Moment | None = None


class CancelledOut(TranscriptionOut):
    """A cancelled transcription, with its charged cost and its cost in doubt."""

    charged: Cost = Field(description="Cost that is certain.")
    in_doubt: Cost = Field(
        description="Maximum cost of the calls that were in flight. The provider's bill decides."
    )


class TranscriptionPage(Schema):
    """Newest first, without `segments` and `raw`; `next_cursor` is null on the last page."""

    items: Sequence[TranscriptionOut]
    next_cursor: str | None = None
