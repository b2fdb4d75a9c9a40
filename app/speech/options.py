"""Options of a transcription request, read from a form or from JSON."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from app.errors import InvalidParameter
from app.kit.json_bytes import parse_json, refuse_unstorable
from app.kit.text import is_storable

LANGUAGE_TAG = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})?$"
MONEY = r"^[0-9]{1,9}(\.[0-9]{1,9})?( [A-Z]{3})?$"
MAX_BILLABLE_SECONDS = 1_000_000
MAX_SAMPLE_RATE = 384_000
MAX_WAIT_SECONDS = 3600
MAX_PRIORITY = 100
STREAM = "stream"  # the mode of a job whose client reads its events
MAX_METADATA_ENTRIES, METADATA_NAME_CHARS, METADATA_VALUE_CHARS = 16, 64, 500
MAX_FILTER_CHARS = 20_000
MAX_CHANNELS = 8
MAX_HOT_WORDS = 2_000
SHOWN_NAME_CHARS = 60  # of an unknown option's name


@dataclass(frozen=True, slots=True)
class _Allowed:
    """Completes the sentence "`name` must be ..." of an error."""

    values: str


def _split_commas(value: Any) -> Any:
    """Read a list that a form sends as repeated fields or as one field with commas."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        return values
    return [name.strip() for v in values for name in v.split(",") if name.strip()]


def _parse_json(value: Any) -> Any:
    """Read an object that a form sends as JSON."""
    if isinstance(value, str):
        value = parse_json(value)
        refuse_unstorable(value)
    return value


def _validator(is_valid: Callable[[Any], bool], reason: str) -> AfterValidator:
    """Return a validator that rejects the values for which `is_valid` is false."""

    def validate(value: Any) -> Any:
        if not is_valid(value):
            raise ValueError(reason)
        return value

    return AfterValidator(validate)


def _require_number(value: Any) -> Any:
    if isinstance(value, bool):  # an int in Python
        raise ValueError("a boolean")  # noqa: TRY004 - pydantic collects ValueError only
    return value


_Text = Annotated[str, _validator(is_storable, "a NUL character or half a surrogate pair")]
_Tag = Annotated[str, Field(pattern=LANGUAGE_TAG)]
_Key = Annotated[_Text, Field(min_length=1, max_length=METADATA_NAME_CHARS)]
_Value = Annotated[_Text, Field(max_length=METADATA_VALUE_CHARS)]
_Filter = Annotated[
    dict[_Key, Any],
    Field(max_length=20),
    _validator(
        lambda value: len(json.dumps(value, ensure_ascii=False)) <= MAX_FILTER_CHARS, "too long"
    ),
]
_Weight = Annotated[int, Field(ge=1, le=50), BeforeValidator(_require_number)]
_BOOLEAN = _Allowed("true or false")


class Options(BaseModel):
    """The options of a request, under the names of the gateway."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[_Text | None, _Allowed("a model's name of at most 100 characters")] = Field(
        None,
        max_length=100,
        description="Model that transcribes; GET /v1/models lists them. Default: the gateway's "
        "default model.",
        examples=["local/base"],
    )
    language: Annotated[str | None, _Allowed("a language tag such as `zh` or `en-US`")] = Field(
        None,
        pattern=LANGUAGE_TAG,
        description="Spoken language, as an ISO 639 code. A region is accepted and ignored. "
        "Default: the model detects the language.",
        examples=["zh", "en"],
    )
    language_hints: Annotated[
        list[_Tag],
        BeforeValidator(_split_commas),
        _Allowed("at most 4 language tags such as `zh`, `en`"),
    ] = Field(
        [],
        max_length=4,
        description="Languages among which the model detects the spoken one. In a form: repeat the "
        "field, or separate the tags by commas.",
        examples=[["zh", "en"]],
    )
    context: Annotated[_Text | None, _Allowed("text of at most 40000 characters")] = Field(
        None,
        max_length=40_000,
        description="Names, terms or sentences that help the model to spell the words.",
        examples=["Names: Ada Lovelace, Zhang Wei. Terms: REST gateway."],
    )
    enable_itn: Annotated[bool | None, _BOOLEAN] = Field(
        None,
        description="Write numbers, dates and amounts in figures instead of words.",
        examples=[True],
    )
    enable_lid: Annotated[bool | None, _BOOLEAN] = Field(
        None, description="Return the spoken language.", examples=[True]
    )
    sample_rate: Annotated[
        int | None,
        BeforeValidator(_require_number),
        _Allowed("a whole number of hertz from 1 to 384000"),
    ] = Field(
        None,
        ge=1,
        le=MAX_SAMPLE_RATE,
        description="Sample rate of bare PCM in hertz (default: 16000). A file has its own sample "
        "rate; if this option differs from it, the answer has a warning.",
        examples=[16000],
    )
    format: Annotated[
        Literal["pcm"] | None, _Allowed("`pcm`; the format of every other file is detected")
    ] = Field(
        None,
        description="`pcm` for bare samples without a header: signed 16 bit, little endian, mono. "
        "The media types audio/pcm, audio/x-pcm and audio/L16 mean the same.",
        examples=["pcm"],
    )
    split: Annotated[Literal["auto", "off"], _Allowed("`auto` or `off`")] = Field(
        "auto",
        description="`auto`: a long audio is split in pauses and sent in parts. `off`: it is sent "
        "in one call, or rejected if it is too long for one call of the model.",
        examples=["auto"],
    )
    on_gap: Annotated[Literal["fail", "keep"], _Allowed("`fail` or `keep`")] = Field(
        "fail",
        description="If one part of a long audio cannot be transcribed: `fail` fails the "
        "transcription; `keep` completes it with the other parts, and `warnings` and `coverage` "
        "report the gap.",
        examples=["fail"],
    )
    vocabulary_id: Annotated[_Text | None, _Allowed("an id of at most 200 characters")] = Field(
        None,
        max_length=200,
        description="Hot-word list that is stored at the model's provider.",
        examples=["vocab-meetings-1"],
    )
    vocabulary: Annotated[
        dict[_Key, _Weight] | None,
        BeforeValidator(_parse_json),
        _Allowed("an object of words, each with a weight from 1 to 5, or 50"),
    ] = Field(
        None,
        max_length=MAX_HOT_WORDS,
        description="Hot words of this audio, each with a weight: 1 to 5, usually 4, or 50 for a "
        "few words that matter most. In a form: a JSON object.",
        examples=[{"Qwen": 4}],
    )
    diarization_enabled: Annotated[bool | None, _BOOLEAN] = Field(
        None,
        description="Distinguish speakers: each segment has a `speaker`.",
        examples=[True],
    )
    speaker_count: Annotated[
        int | None, BeforeValidator(_require_number), _Allowed("a whole number from 2 to 100")
    ] = Field(
        None,
        ge=2,
        le=100,
        description="Number of speakers, with `diarization_enabled`. Default: it is detected.",
        examples=[2],
    )
    channel_id: Annotated[
        list[Annotated[int, Field(ge=0, le=63), BeforeValidator(_require_number)]],
        BeforeValidator(_split_commas),
        _validator(lambda values: len(set(values)) == len(values), "the same channel twice"),
        _Allowed("at most 8 different channels, counted from 0"),
    ] = Field(
        [],
        max_length=MAX_CHANNELS,
        description="Channels that are transcribed and billed one by one; each segment has a "
        "`channel`. Default: all channels are mixed into one.",
        examples=[[0, 1]],
    )
    special_word_filter: Annotated[
        _Filter | None,
        BeforeValidator(_parse_json),
        _Allowed("an object of at most 20000 characters, as the model's provider describes it"),
    ] = Field(
        None,
        description="Filter of sensitive words, as the model's provider describes it. In a form: a "
        "JSON object.",
        examples=[{"system_reserved_filter": True}],
    )
    timestamp_alignment_enabled: Annotated[bool | None, _BOOLEAN] = Field(
        None, description="Make the times of words more exact.", examples=[True]
    )
    disfluency_removal_enabled: Annotated[bool | None, _BOOLEAN] = Field(
        None, description="Leave out fillers such as `um` and `er`.", examples=[False]
    )
    timestamp_granularities: Annotated[
        list[Literal["segment", "word"]],
        BeforeValidator(_split_commas),
        _Allowed("`segment` and `word`"),
    ] = Field(
        [],
        max_length=2,
        description="`word` adds the times of words. Segments always have times.",
        examples=[["segment", "word"]],
    )
    mode: Annotated[
        Literal["auto", "sync", "async", "stream"], _Allowed("`auto`, `sync`, `async` or `stream`")
    ] = Field(
        "auto",
        description="`sync` waits for the transcript. `async` answers 202 at once. `stream` sends "
        "the text as server-sent events while it is transcribed. `auto` is `sync`. With `async`, a "
        "model that has a task model (`qwen3-asr-flash` has `qwen3-asr-flash-filetrans`) is "
        "replaced by it.",
        examples=["sync"],
    )
    asynchronous: Annotated[bool | None, _BOOLEAN] = Field(
        None,
        alias="async",
        description="`true` is a shorthand for `mode=async`.",
        examples=[True],
    )
    priority: Annotated[
        int, BeforeValidator(_require_number), _Allowed("a whole number from -100 to 100")
    ] = Field(
        0,
        ge=-MAX_PRIORITY,
        le=MAX_PRIORITY,
        description="Jobs and calls with a higher priority are started first.",
        examples=[10],
    )
    on_disconnect: Annotated[Literal["finish", "cancel"], _Allowed("`finish` or `cancel`")] = Field(
        "finish",
        description="If the client disconnects while it waits: `finish` continues the "
        "transcription, `cancel` cancels it.",
        examples=["finish"],
    )
    wait: Annotated[
        int | None,
        BeforeValidator(_require_number),
        _Allowed("a whole number of seconds from 0 to 3600"),
    ] = Field(
        None,
        ge=0,
        le=MAX_WAIT_SECONDS,
        description="Seconds to wait for the transcript. After them the answer is 202, and the "
        "transcription continues.",
        examples=[600],
    )
    max_cost: Annotated[
        str | None,
        _Allowed("an amount such as `0.50` or `0.50 CNY`, as text and without exponent"),
    ] = Field(
        None,
        pattern=MONEY,
        description="Maximum cost of this transcription, in the currency of the model's price or "
        "in the one that is named. A request with a higher expected cost is rejected before any "
        "call, and no call is made that could exceed the maximum.",
        examples=["0.50", "0.50 CNY"],
    )
    max_billable_seconds: Annotated[
        int | None,
        BeforeValidator(_require_number),
        _Allowed("a whole number of seconds from 1 to 1000000"),
    ] = Field(
        None,
        ge=1,
        le=MAX_BILLABLE_SECONDS,
        description="Maximum number of billed seconds; each part is rounded up.",
        examples=[3600],
    )
    strict: Annotated[bool, _BOOLEAN] = Field(
        False,  # noqa: FBT003 - a field's default
        description="Reject the request if the model does not support an option, instead of "
        "adding a warning.",
        examples=[False],
    )
    include: Annotated[list[Literal["raw"]], BeforeValidator(_split_commas), _Allowed("`raw`")] = (
        Field(
            [],
            max_length=4,
            description="`raw` adds the original answers of the engine.",
            examples=[["raw"]],
        )
    )
    reference: Annotated[_Text | None, _Allowed("text of at most 200 characters")] = Field(
        None,
        max_length=200,
        description="Your own name for this transcription. It is returned unchanged.",
        examples=["call-2026-11-21-0042"],
    )
    metadata: Annotated[
        dict[_Key, _Value] | None,
        BeforeValidator(_parse_json),
        _Allowed("an object of at most 16 strings: names up to 64 characters, values up to 500"),
    ] = Field(
        None,
        max_length=MAX_METADATA_ENTRIES,
        description="Your own key-value pairs. They are returned unchanged. In a form: a JSON "
        "object.",
        examples=[{"team": "support"}],
    )


_FIELDS = {field.alias or name: field for name, field in Options.model_fields.items()}
OPTION_NAMES = frozenset(_FIELDS)
_LISTS = {name for name, field in _FIELDS.items() if field.default == []}
_MODE_NAMES = ("mode", "async")


def parse_options(
    raw: Mapping[str, Any], preferred: Mapping[str, Any] | None = None
) -> tuple[Options, list[str]]:
    """Parse JSON members or form values; return the options and the unknown names.

    An empty value counts as not given; then the `preferred` value is used. Raises
    InvalidParameter without the rejected value in its text.
    """
    given, unknown = {}, []
    for key, value in raw.items():
        name = key.removesuffix("[]")
        if name not in _FIELDS:
            unknown.append(name[:SHOWN_NAME_CHARS])
            continue
        if isinstance(value, list) and len(value) == 1 and name not in _LISTS:
            value = value[0]  # noqa: PLW2901 - a form reader makes a list of a single field
        if value not in (None, ""):
            given[name] = value
    has_mode = any(name in given for name in _MODE_NAMES)
    defaults = {n: v for n, v in (preferred or {}).items() if not (has_mode and n in _MODE_NAMES)}
    try:
        options = Options.model_validate({**defaults, **given})
    except ValidationError as error:
        name = str(error.errors(include_input=False, include_url=False)[0]["loc"][0])
        allowed = next(one for one in _FIELDS[name].metadata if isinstance(one, _Allowed))
        raise InvalidParameter(f"`{name}` must be {allowed.values}.", parameter=name) from None
    if options.asynchronous is None:
        return options, unknown
    if "mode" in given and options.asynchronous != (options.mode == "async"):
        raise InvalidParameter(
            f"`async={str(options.asynchronous).lower()}` contradicts `mode={options.mode}`. Send "
            "only one of them.",
            parameter="async",
        )
    mode = "async" if options.asynchronous else options.mode
    return options.model_copy(update={"mode": mode}), unknown
