"""What a client may ask of a transcription, and what becomes of it on the model they chose.

Nothing is ignored in silence: what a model cannot honour is a warning, or an error if `strict`.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypedDict

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from app.errors import ContextTooLong, InvalidParameter, OptionNotSupported
from app.speech.catalogue import Model

LANGUAGE_TAG = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})?$"
MAX_SAMPLE_RATE = 384_000
MAX_WAIT_SECONDS = 3600
SHOWN_NAME_CHARS = 60  # of an option's name that we do not know
BYTES_PER_TOKEN = 4

# What only a model can honour; the other options are the gateway's own and always honoured.
MODEL_OPTIONS = (
    "language",
    "language_hints",
    "context",
    "enable_itn",
    "enable_lid",
    "sample_rate",
    "vocabulary_id",
    "disfluency_removal_enabled",
    "timestamp_granularities",
)
_ONE_TOKEN_EACH = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")


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


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):  # which Python counts among the integers
        raise ValueError("a boolean")  # noqa: TRY004 - pydantic collects ValueError only
    return value


_Text = Annotated[str, AfterValidator(_plain)]
_Tag = Annotated[str, Field(pattern=LANGUAGE_TAG)]
_Key = Annotated[_Text, Field(min_length=1, max_length=64)]
_Value = Annotated[_Text, Field(max_length=500)]
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
        description="The recording's sample rate in hertz, for a model that wants to be told.",
        examples=[16000],
    )
    vocabulary_id: Annotated[_Text | None, _Takes("an id of at most 200 characters")] = Field(
        None,
        max_length=200,
        description="A hot-word list kept by the model's provider.",
        examples=["vocab-meetings-1"],
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
    mode: Annotated[Literal["auto", "sync"], _Takes("`auto` or `sync`")] = Field(
        "auto", description="How to answer: `sync` waits for the text.", examples=["sync"]
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
        max_length=16,
        description="Your own notes, given back as they are. In a form: a JSON object.",
        examples=[{"team": "support"}],
    )


class OptionWarning(TypedDict):
    """One entry of an answer's `warnings`."""

    code: str
    option: str
    detail: str


@dataclass(frozen=True, slots=True)
class Fitted:
    """What an engine will be asked for, and what the client must be told about the rest."""

    language: str | None = None
    context: str | None = None
    words: bool = False
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[OptionWarning, ...] = ()


def parse_options(raw: Mapping[str, Any]) -> tuple[Options, list[str]]:
    """Read options out of JSON members or form values; return them and the unknown names.

    A field left empty counts as not given. Raises InvalidParameter, which never repeats what
    was sent.
    """
    fields = Options.model_fields
    given = {name.removesuffix("[]"): value for name, value in raw.items()}
    unknown = [name[:SHOWN_NAME_CHARS] for name in given if name not in fields]
    known = {n: v for n in given if n in fields and (v := _single(n, given[n])) not in (None, "")}
    try:
        return Options.model_validate(known), unknown
    except ValidationError as error:
        name = str(error.errors(include_input=False, include_url=False)[0]["loc"][0])
        raise InvalidParameter(f"`{name}` takes {_takes(name)}.", parameter=name) from None


def _single(name: str, value: Any) -> Any:
    """Unwrap the list that a form reader makes of a field that was sent once."""
    takes_list = Options.model_fields[name].default == []
    return value[0] if isinstance(value, list) and len(value) == 1 and not takes_list else value


def _takes(name: str) -> str:
    notes = Options.model_fields[name].metadata
    return next(note.words for note in notes if isinstance(note, _Takes))


def fit(options: Options, model: Model, unknown: Sequence[str] = ()) -> Fitted:
    """Decide what the model is asked for, and say in warnings what it is not.

    Raises ContextTooLong, and OptionNotSupported where a warning meets `strict`.
    """
    warnings = [*_unknown(unknown), *_unsupported(options, model)]
    dropped = {warning["option"] for warning in warnings}
    kept = {n: v for n in MODEL_OPTIONS if n not in dropped and (v := getattr(options, n))
            not in (None, [])}  # fmt: skip
    language, hints, more = _languages(kept, model)
    warnings += more
    if options.strict and warnings:
        raise OptionNotSupported(warnings[0]["detail"], parameter=warnings[0]["option"])
    context = kept.pop("context", None)
    _check_context(context, model)
    words = "word" in kept.pop("timestamp_granularities", ())
    rest = {n: v for n, v in kept.items() if n not in ("language", "language_hints")}
    if hints:
        rest["language_hints"] = hints
    return Fitted(language, context, words, MappingProxyType(rest), tuple(warnings))


def _unknown(names: Sequence[str]) -> Iterator[OptionWarning]:
    for name in names:
        yield _warning("unknown_option", name, f"`{name}` is no option of this gateway.")


def _unsupported(options: Options, model: Model) -> Iterator[OptionWarning]:
    for name in MODEL_OPTIONS:
        value = getattr(options, name)
        if name == "timestamp_granularities":
            if "word" in value and not model.word_times:
                yield _ignored(name, f"{model.name} gives no times of single words.")
        elif value not in (None, []) and not _takes_option(model, name):
            yield _ignored(name, f"{model.name} does not take `{name}`.")


def _takes_option(model: Model, name: str) -> bool:
    # A hint can be the language asked for where there are no hints.
    by_another_name = name == "language_hints" and "language" in model.options
    return name in model.options or by_another_name


def _languages(
    kept: Mapping[str, Any], model: Model
) -> tuple[str | None, list[str], list[OptionWarning]]:
    """Return the language to ask for, several to choose among, and what to warn of."""
    warnings = []
    language = plain_language(kept["language"]) if "language" in kept else None
    if language and not _speaks(model, language):
        warnings.append(_ignored("language", f"{model.name} does not know `{language}`."))
        language = None
    hints = list(dict.fromkeys(plain_language(hint) for hint in kept.get("language_hints", ())))
    known = [hint for hint in hints if _speaks(model, hint)]
    if len(known) < len(hints):
        strange = ", ".join(hint for hint in hints if hint not in known)
        warnings.append(_ignored("language_hints", f"{model.name} does not know {strange}."))
    if language or not known:
        return language, [], warnings
    if len(known) > 1 and "language_hints" in model.options:
        return None, known, warnings
    if len(known) > 1:
        detail = f"{model.name} takes one language: the first hint was used."
        warnings.append(_ignored("language_hints", detail))
    return known[0], [], warnings


def plain_language(tag: str) -> str:
    """Return the language of a tag without its region: `zh-CN` is `zh`."""
    return tag.split("-", 1)[0].lower()


def _speaks(model: Model, language: str) -> bool:
    return not model.languages or language in model.languages


def _check_context(context: str | None, model: Model) -> None:
    if context and (tokens := estimate_tokens(context)) > model.context_tokens:
        raise ContextTooLong(
            f"`context` is about {tokens} tokens; {model.name} takes {model.context_tokens}.",
            parameter="context",
            tokens=tokens,
            max_tokens=model.context_tokens,
        )


def estimate_tokens(text: str) -> int:
    """Estimate what a text costs a model: it need not be exact, but the same everywhere.

    One token for each Chinese, Japanese or Korean character; of the rest one for every four
    UTF-8 bytes, and at least one for each word.
    """
    rest = _ONE_TOKEN_EACH.sub(" ", text)
    characters = len(_ONE_TOKEN_EACH.findall(text))
    words = rest.split()
    return characters + sum(-(-len(w.encode("utf-8", "replace")) // BYTES_PER_TOKEN) for w in words)


def _ignored(option: str, why: str) -> OptionWarning:
    return _warning("option_ignored", option, why)


def _warning(code: str, option: str, detail: str) -> OptionWarning:
    return {"code": code, "option": option, "detail": detail}
