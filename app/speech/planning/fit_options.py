"""The options of a request, as far as the chosen model supports them.

No option is ignored in silence: an unsupported one is a warning, or with `strict` an error.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from types import MappingProxyType
from typing import Any, Protocol, TypedDict

from app.errors import ContextTooLong, OptionNotSupported
from app.kit.records import dataclass
from app.speech.catalogue import CatalogueModel
from app.speech.members import similar_member
from app.speech.options import Options
from app.speech.warning_codes import WarningCode

BYTES_PER_TOKEN = 4
MAX_UNKNOWN_OPTIONS = 20  # that are named by a warning each

# Options that need the support of the model; the gateway itself implements the others.
MODEL_OPTIONS = (
    "language",
    "language_hints",
    "context",
    "enable_itn",
    "enable_lid",
    "vocabulary_id",
    "vocabulary",
    "diarization_enabled",
    "speaker_count",
    "channel_id",
    "special_word_filter",
    "timestamp_alignment_enabled",
    "disfluency_removal_enabled",
    "timestamp_granularities",
)
_ONE_TOKEN_EACH = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")


class Probed(Protocol):
    """The probe result of an audio."""

    @property
    def codec(self) -> str: ...
    @property
    def sample_rate(self) -> int: ...


class OptionWarning(TypedDict):
    """One entry of an answer's `warnings`."""

    code: str
    option: str
    detail: str


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """The options for the engine, and warnings about those that the model does not support.

    `word_timestamps`: the times of words are wanted. `options` are under the gateway's names.
    """

    language: str | None = None
    context: str | None = None
    word_timestamps: bool = False
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[OptionWarning, ...] = ()


def fit_options(
    options: Options,
    model: CatalogueModel,
    unknown: Sequence[str] = (),
    others: Callable[[], Iterable[CatalogueModel]] = tuple,
) -> ModelRequest:
    """Return the options that the model supports, and a warning for each of the others.

    `unknown` are names that are no option. `others` returns models that could be used instead: a
    warning names the first that supports the option. Raises ContextTooLong, and OptionNotSupported
    for the first warning if the request is `strict`.
    """
    code = WarningCode.UNKNOWN_OPTION
    warnings = [
        _option_warning(
            code, name, f"The gateway does not know the option `{name}`.{similar_member(name)}"
        )
        for name in unknown[:MAX_UNKNOWN_OPTIONS]
    ]
    for name in unknown[MAX_UNKNOWN_OPTIONS : MAX_UNKNOWN_OPTIONS + 1]:
        more = len(unknown) - MAX_UNKNOWN_OPTIONS
        detail = f"The gateway does not know {more} more options of the request."
        warnings.append(_option_warning(code, name, detail))
    warnings += _unsupported(options, model, others)
    ignored = {warning["option"] for warning in warnings}
    supported = {
        name: value
        for name in MODEL_OPTIONS
        if name not in ignored and (value := getattr(options, name)) not in (None, [])
    }
    language, hints, language_warnings = _languages(supported, model)
    warnings += language_warnings
    writes_figures = not model.itn_languages or language in model.itn_languages
    if language and supported.get("enable_itn") and not writes_figures:
        del supported["enable_itn"]
        detail = f"{model.name} writes figures only in {', '.join(model.itn_languages)}."
        warnings.append(_ignored("enable_itn", detail))
    if options.strict and warnings:
        raise OptionNotSupported(warnings[0]["detail"], parameter=warnings[0]["option"])
    context = supported.pop("context", None)
    if context and (tokens := estimate_tokens(context)) > model.context_tokens:
        raise ContextTooLong(
            f"`context` has about {tokens} tokens; {model.name} accepts {model.context_tokens}.",
            parameter="context",
            tokens=tokens,
            max_tokens=model.context_tokens,
        )
    for name in sorted(model.unverified):
        if getattr(options, name):
            detail = f"The provider of {model.name} does not document `{name}`. It was sent anyway."
            warnings.append(_option_warning(WarningCode.OPTION_UNVERIFIED, name, detail))
    words = "word" in supported.pop("timestamp_granularities", ())
    rest = {n: v for n, v in supported.items() if n not in ("language", "language_hints")}
    if hints:
        rest["language_hints"] = hints
    return ModelRequest(language, context, words, MappingProxyType(rest), tuple(warnings))


def model_warnings(model: CatalogueModel) -> list[dict[str, str]]:
    """Return the warnings that every transcript of the model has."""
    if not model.is_llm:
        return []
    detail = (
        f"{model.name} is a language model. It may write other words than were spoken, and it "
        "returns neither the language nor times."
    )
    return [{"code": WarningCode.MAY_PARAPHRASE, "detail": detail}]


def sample_rate_warning(
    requested: int | None, probed: Probed, *, strict: bool
) -> OptionWarning | None:
    """Return a warning if the sample rate of the request differs from that of the file.

    Raises OptionNotSupported instead if the request is `strict`.
    """
    # Opus has no sample rate of its own: it is always decoded to 48 kHz.
    if requested is None or probed.codec == "opus" or requested == probed.sample_rate:
        return None
    detail = f"`sample_rate` is {requested} Hz, but the file has {probed.sample_rate} Hz."
    if strict:
        raise OptionNotSupported(detail, parameter="sample_rate")
    detail += " The file's own rate is used."
    return _option_warning(WarningCode.SAMPLE_RATE_DIFFERS, "sample_rate", detail)


def _unsupported(
    options: Options, model: CatalogueModel, others: Callable[[], Iterable[CatalogueModel]]
) -> Iterator[OptionWarning]:
    for name in MODEL_OPTIONS:
        value = getattr(options, name)
        is_words = name == "timestamp_granularities"
        is_set = "word" in value if is_words else value not in (None, [])
        if not is_set or _supports(model, name):
            continue
        lacks = "does not return the times of words" if is_words else f"does not support `{name}`"
        better = next((f"; {one.name} does" for one in others() if _supports(one, name)), "")
        yield _ignored(name, f"{model.name} {lacks}{better}.")
    is_diarized = options.diarization_enabled and "diarization_enabled" in model.options
    if options.speaker_count and not is_diarized and "speaker_count" in model.options:
        detail = "`speaker_count` has no effect without `diarization_enabled`."
        yield _ignored("speaker_count", detail)


def _supports(model: CatalogueModel, name: str) -> bool:
    if name == "timestamp_granularities":
        return model.word_times
    # A single hint can be sent as the language.
    is_language = name == "language_hints" and "language" in model.options
    return name in model.options or is_language


def _languages(
    supported: Mapping[str, Any], model: CatalogueModel
) -> tuple[str | None, list[str], list[OptionWarning]]:
    """Return the language, or several among which the model detects it, and warnings."""

    def knows(language: str) -> bool:
        return not model.languages or language in model.languages

    warnings = []
    language = plain_language(supported["language"]) if "language" in supported else None
    if language and not knows(language):
        detail = f"{model.name} does not support the language `{language}`."
        warnings.append(_ignored("language", detail))
        language = None
    tags = supported.get("language_hints", ())
    hints = list(dict.fromkeys(plain_language(tag) for tag in tags))
    known = [hint for hint in hints if knows(hint)]
    if len(known) < len(hints):
        strange = ", ".join(f"`{hint}`" for hint in hints if hint not in known)
        detail = f"{model.name} does not support the language {strange}."
        warnings.append(_ignored("language_hints", detail))
    if language or not known:
        return language, [], warnings
    if len(known) > 1 and "language_hints" in model.options:
        return None, known, warnings
    if len(known) > 1:
        # One of them would be forced upon speech in the others.
        detail = f"{model.name} accepts one language. It detects the language instead."
        return None, [], [*warnings, _ignored("language_hints", detail)]
    return known[0], [], warnings


def plain_language(tag: str) -> str:
    """Return the language of a tag without its region: `zh-CN` is `zh`."""
    return tag.split("-", 1)[0].lower()


def estimate_tokens(text: str) -> int:
    """Estimate the number of tokens of a text, by the same rule for every model.

    One token for each Chinese, Japanese or Korean character. For the rest, one token for every four
    UTF-8 bytes, and at least one for each word.
    """
    rest = _ONE_TOKEN_EACH.sub(" ", text)
    characters = len(_ONE_TOKEN_EACH.findall(text))
    words = rest.split()
    return characters + sum(-(-len(w.encode("utf-8", "replace")) // BYTES_PER_TOKEN) for w in words)


def _ignored(option: str, detail: str) -> OptionWarning:
    return _option_warning(WarningCode.OPTION_IGNORED, option, detail)


def _option_warning(code: WarningCode, option: str, detail: str) -> OptionWarning:
    return {"code": code, "option": option, "detail": detail}
