"""What a client may ask of a transcription, read alike from a form and from JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from app.errors import InvalidParameter

LANGUAGE_TAG = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})?$"
MONEY = r"^[0-9]{1,9}(\.[0-9]{1,9})?( [A-Z]{3})?$"
MOST_BILLABLE_SECONDS = 1_000_000
MAX_SAMPLE_RATE = 384_000
MAX_WAIT_SECONDS = 3600
MOST_PRIORITY = 100
STREAM = "stream"  # the mode of a job whose client listens
MAX_METADATA_ENTRIES, METADATA_NAME_CHARS, METADATA_VALUE_CHARS = 16, 64, 500
MAX_FILTER_CHARS = 20_000
MOST_CHANNELS = 8  # that are transcribed one by one
MOST_HOT_WORDS = 2_000
SHOWN_NAME_CHARS = 60  # of an option's name that we do not know


@dataclass(frozen=True, slots=True)
class _Takes:
    """Completes the sentence "`name` takes …" of an error."""

    words: str


def _listed(value: Any) -> Any:
    """Let a form give a list as repeated fields, or as one with commas."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        return values
    return [name.strip() for v in values for name in v.split(",") if name.strip()]


def _object(value: Any) -> Any:
    """Let a form give an object as JSON."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error


def _plain(value: str) -> str:
    if "\x00" in value:  # PostgreSQL's text cannot hold it
        raise ValueError("a NUL character")
    value.encode()  # half of a surrogate pair, which JSON can spell, is no text
    return value


def _short(value: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(value, ensure_ascii=False)) > MAX_FILTER_CHARS:
        raise ValueError("too long")
    return value


def _distinct(values: list[int]) -> list[int]:
    if len(set(values)) < len(values):
        raise ValueError("the same channel twice")
    return values


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):  # which Python counts among the integers
        raise ValueError("a boolean")  # noqa: TRY004 - pydantic collects ValueError only
    return value


_Text = Annotated[str, AfterValidator(_plain)]
_Tag = Annotated[str, Field(pattern=LANGUAGE_TAG)]
_Key = Annotated[_Text, Field(min_length=1, max_length=METADATA_NAME_CHARS)]
_Value = Annotated[_Text, Field(max_length=METADATA_VALUE_CHARS)]
_Filter = Annotated[dict[_Key, Any], Field(max_length=20), AfterValidator(_short)]
_Weight = Annotated[int, Field(ge=1, le=50), BeforeValidator(_no_bool)]
_YES_OR_NO = _Takes("true or false")


class Options(BaseModel):
    """What can be asked with a recording, in the gateway's own names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[_Text | None, _Takes("a model's name, at most 100 characters")] = Field(
        None,
        max_length=100,
        description="Which model transcribes; GET /v1/models lists them. Without it, the "
        "gateway's default.",
        examples=["local/base"],
    )
    language: Annotated[str | None, _Takes("a language tag such as `zh` or `en-US`")] = Field(
        None,
        pattern=LANGUAGE_TAG,
        description="The language spoken, as an ISO 639 code; a region is accepted and ignored. "
        "Without it, the language is detected.",
        examples=["zh", "en"],
    )
    language_hints: Annotated[
        list[_Tag], BeforeValidator(_listed), _Takes("at most 4 language tags such as `zh`, `en`")
    ] = Field(
        [],
        max_length=4,
        description="Languages that may be spoken: detection chooses among them. In a form: "
        "repeated, or separated by commas.",
        examples=[["zh", "en"]],
    )
    context: Annotated[_Text | None, _Takes("text of at most 40000 characters")] = Field(
        None,
        max_length=40_000,
        description="Names, terms or sentences that help the model to spell what is said.",
        examples=["Names: Ada Lovelace, Zhang Wei. Terms: REST gateway."],
    )
    enable_itn: Annotated[bool | None, _YES_OR_NO] = Field(
        None,
        description="Write numbers, dates and amounts in figures instead of words.",
        examples=[True],
    )
    enable_lid: Annotated[bool | None, _YES_OR_NO] = Field(
        None, description="Tell which language was spoken.", examples=[True]
    )
    sample_rate: Annotated[
        int | None, BeforeValidator(_no_bool), _Takes("a whole number of hertz from 1 to 384000")
    ] = Field(
        None,
        ge=1,
        le=MAX_SAMPLE_RATE,
        description="The recording's sample rate in hertz. Of bare PCM it is what counts (16000 "
        "where it is not said); any other recording says its own, and a difference is a warning.",
        examples=[16000],
    )
    format: Annotated[
        Literal["pcm"] | None, _Takes("`pcm`; every other recording says itself what it is")
    ] = Field(
        None,
        description="`pcm` for bare samples without a header: signed 16 bit, little endian, mono. "
        "The media type audio/pcm, audio/x-pcm or audio/L16 says the same.",
        examples=["pcm"],
    )
    split: Annotated[Literal["auto", "off"], _Takes("`auto` or `off`")] = Field(
        "auto",
        description="Whether a recording may be cut in pauses and sent in parts; with `off` it "
        "is one call, or an error where the model cannot take that much.",
        examples=["auto"],
    )
    on_gap: Annotated[Literal["fail", "keep"], _Takes("`fail` or `keep`")] = Field(
        "fail",
        description="What becomes of the transcription when one part of a long recording cannot "
        "be transcribed: `fail`, or `keep` the rest and say in `warnings` and `coverage` what is "
        "missing.",
        examples=["fail"],
    )
    vocabulary_id: Annotated[_Text | None, _Takes("an id of at most 200 characters")] = Field(
        None,
        max_length=200,
        description="A hot-word list kept by the model's provider.",
        examples=["vocab-meetings-1"],
    )
    vocabulary: Annotated[
        dict[_Key, _Weight] | None,
        BeforeValidator(_object),
        _Takes("an object of words, each with a weight from 1 to 5, or 50"),
    ] = Field(
        None,
        max_length=MOST_HOT_WORDS,
        description="Hot words for this recording, each with its weight: 1 to 5, where 4 is usual, "
        "or 50 for a few that matter most. In a form: a JSON object.",
        examples=[{"Qwen": 4}],
    )
    diarization_enabled: Annotated[bool | None, _YES_OR_NO] = Field(
        None,
        description="Tell the speakers apart: each segment names its `speaker`.",
        examples=[True],
    )
    speaker_count: Annotated[
        int | None, BeforeValidator(_no_bool), _Takes("a whole number from 2 to 100")
    ] = Field(
        None,
        ge=2,
        le=100,
        description="How many speakers there are; without it, that is found out. It counts where "
        "`diarization_enabled` is on.",
        examples=[2],
    )
    channel_id: Annotated[
        list[Annotated[int, Field(ge=0, le=63), BeforeValidator(_no_bool)]],
        BeforeValidator(_listed),
        AfterValidator(_distinct),
        _Takes("at most 8 different channels, counted from 0"),
    ] = Field(
        [],
        max_length=MOST_CHANNELS,
        description="Channels to transcribe one by one, each for its own price: each segment names "
        "its `channel`. Without it, a recording of several channels is mixed into one.",
        examples=[[0, 1]],
    )
    special_word_filter: Annotated[
        _Filter | None,
        BeforeValidator(_object),
        _Takes("an object of at most 20000 characters, as the model's provider describes it"),
    ] = Field(
        None,
        description="What becomes of sensitive words, in the provider's own form. In a form: a "
        "JSON object.",
        examples=[{"system_reserved_filter": True}],
    )
    timestamp_alignment_enabled: Annotated[bool | None, _YES_OR_NO] = Field(
        None, description="Take more care over the times of words.", examples=[True]
    )
    disfluency_removal_enabled: Annotated[bool | None, _YES_OR_NO] = Field(
        None, description="Leave out fillers such as `um` and `er`.", examples=[False]
    )
    timestamp_granularities: Annotated[
        list[Literal["segment", "word"]], BeforeValidator(_listed), _Takes("`segment` and `word`")
    ] = Field(
        [],
        max_length=2,
        description="`word` adds the times of single words; segments always have times.",
        examples=[["segment", "word"]],
    )
    mode: Annotated[
        Literal["auto", "sync", "async", "stream"], _Takes("`auto`, `sync`, `async` or `stream`")
    ] = Field(
        "auto",
        description="How to answer: `sync` waits for the text, `async` answers 202 at once, "
        "`stream` tells the text as it comes, as server-sent events; `auto` is `sync`. A model "
        "with another one beside it for whole files (`qwen3-asr-flash` has "
        "`qwen3-asr-flash-filetrans`) leaves `async` to that one.",
        examples=["sync"],
    )
    asynchronous: Annotated[bool | None, _YES_OR_NO] = Field(
        None,
        alias="async",
        description="`true` is a shorthand for `mode=async`.",
        examples=[True],
    )
    priority: Annotated[
        int, BeforeValidator(_no_bool), _Takes("a whole number from -100 to 100")
    ] = Field(
        0,
        ge=-MOST_PRIORITY,
        le=MOST_PRIORITY,
        description="Larger is sooner: what waits with a higher priority is begun first, and "
        "its calls go first.",
        examples=[10],
    )
    on_disconnect: Annotated[Literal["finish", "cancel"], _Takes("`finish` or `cancel`")] = Field(
        "finish",
        description="What becomes of the transcription when the caller who waits for it hangs "
        "up: `finish` lets it go on, `cancel` cancels it.",
        examples=["finish"],
    )
    wait: Annotated[
        int | None, BeforeValidator(_no_bool), _Takes("a whole number of seconds from 0 to 3600")
    ] = Field(
        None,
        ge=0,
        le=MAX_WAIT_SECONDS,
        description="How many seconds to wait for the text before the answer is 202 and the "
        "transcription goes on.",
        examples=[600],
    )
    max_cost: Annotated[
        str | None, _Takes("an amount such as `0.50` or `0.50 CNY`, as text and without exponent")
    ] = Field(
        None,
        pattern=MONEY,
        description="What this transcription may cost at most, in the currency of the model's "
        "price, or in the one named. What is expected to cost more is refused before anything is "
        "spent, and no call is made that could bring the whole above it.",
        examples=["0.50", "0.50 CNY"],
    )
    max_billable_seconds: Annotated[
        int | None,
        BeforeValidator(_no_bool),
        _Takes("a whole number of seconds from 1 to 1000000"),
    ] = Field(
        None,
        ge=1,
        le=MOST_BILLABLE_SECONDS,
        description="How many seconds of sound may be billed at most, each part rounded up.",
        examples=[3600],
    )
    strict: Annotated[bool, _YES_OR_NO] = Field(
        False,  # noqa: FBT003 - a field's default
        description="Refuse the request when the model cannot honour an option, instead of a "
        "warning.",
        examples=[False],
    )
    include: Annotated[list[Literal["raw"]], BeforeValidator(_listed), _Takes("`raw`")] = Field(
        [], max_length=4, description="`raw` adds the engine's own answers.", examples=[["raw"]]
    )
    reference: Annotated[_Text | None, _Takes("text of at most 200 characters")] = Field(
        None,
        max_length=200,
        description="Your own name for this transcription; given back as it is.",
        examples=["call-2026-11-21-0042"],
    )
    metadata: Annotated[
        dict[_Key, _Value] | None,
        BeforeValidator(_object),
        _Takes("an object of at most 16 strings: names up to 64 characters, values up to 500"),
    ] = Field(
        None,
        max_length=MAX_METADATA_ENTRIES,
        description="Your own notes, given back as they are. In a form: a JSON object.",
        examples=[{"team": "support"}],
    )


_FIELDS = {field.alias or name: field for name, field in Options.model_fields.items()}
_WAYS = ("mode", "async")  # of saying how to answer


def parse_options(
    raw: Mapping[str, Any], preferred: Mapping[str, Any] | None = None
) -> tuple[Options, list[str]]:
    """Read options out of JSON members or form values; return them and the unknown names.

    A field left empty counts as not given; then what is `preferred` counts. Raises
    InvalidParameter, which never repeats what was sent.
    """
    given = {name.removesuffix("[]"): value for name, value in raw.items()}
    unknown = [name[:SHOWN_NAME_CHARS] for name in given if name not in _FIELDS]
    known = {n: v for n in given if n in _FIELDS and (v := _single(n, given[n])) not in (None, "")}
    says_how = any(way in known for way in _WAYS)
    wanted = {n: v for n, v in (preferred or {}).items() if not (says_how and n in _WAYS)}
    try:
        options = Options.model_validate({**wanted, **known})
    except ValidationError as error:
        name = str(error.errors(include_input=False, include_url=False)[0]["loc"][0])
        raise InvalidParameter(f"`{name}` takes {_takes(name)}.", parameter=name) from None
    return _with_mode(options, "mode" in known), unknown


def _with_mode(options: Options, says_mode: bool) -> Options:
    """Let `async` say the mode. Raises InvalidParameter where `mode` says another."""
    if options.asynchronous is None:
        return options
    if says_mode and options.asynchronous != (options.mode == "async"):
        raise InvalidParameter(
            f"`async={str(options.asynchronous).lower()}` contradicts `mode={options.mode}`; "
            "one of them is enough.",
            parameter="async",
        )
    return options.model_copy(update={"mode": "async"}) if options.asynchronous else options


def _single(name: str, value: Any) -> Any:
    """Unwrap the list that a form reader makes of a field that was sent once."""
    takes_list = _FIELDS[name].default == []
    return value[0] if isinstance(value, list) and len(value) == 1 and not takes_list else value


def _takes(name: str) -> str:
    return next(note.words for note in _FIELDS[name].metadata if isinstance(note, _Takes))
