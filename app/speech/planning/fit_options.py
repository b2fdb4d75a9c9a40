"""What becomes of a client's options on the model they chose.

Nothing is ignored in silence: what a model cannot honour is a warning, or an error if `strict`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, TypedDict

from app.errors import ContextTooLong, OptionNotSupported
from app.speech.catalogue import Model
from app.speech.options import Options
from app.speech.warning_codes import WarningCode

BYTES_PER_TOKEN = 4

# What only a model can honour; the other options are the gateway's own and always honoured.
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
    """What was found of the recording itself."""

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
    """What an engine will be asked for, and what the client must be told about the rest."""

    language: str | None = None
    context: str | None = None
    words: bool = False
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[OptionWarning, ...] = ()


def fit_options(
    options: Options,
    model: Model,
    unknown: Sequence[str] = (),
    others: Callable[[], Iterable[Model]] = tuple,
) -> ModelRequest:
    """Decide what the model is asked for, and say in warnings what it is not.

    `others` are models that could be asked instead: a warning names the first that can do it.
    Raises ContextTooLong, and OptionNotSupported where a warning meets `strict`.
    """
    warnings = [*_unknown(unknown), *_unsupported(options, model, others)]
    warnings += _ineffective(options, model)
    dropped = {warning["option"] for warning in warnings}
    kept = {n: v for n in MODEL_OPTIONS if n not in dropped and (v := getattr(options, n))
            not in (None, [])}  # fmt: skip
    language, hints, more = _languages(kept, model)
    warnings += more
    if language and kept.get("enable_itn") and not _writes_figures(model, language):
        del kept["enable_itn"]
        detail = f"{model.name} writes figures in {', '.join(model.itn_languages)} only."
        warnings.append(_ignored("enable_itn", detail))
    if options.strict and warnings:
        raise OptionNotSupported(warnings[0]["detail"], parameter=warnings[0]["option"])
    context = kept.pop("context", None)
    _check_context(context, model)
    warnings += [
        _unverified(name, model) for name in sorted(model.unverified) if getattr(options, name)
    ]
    words = "word" in kept.pop("timestamp_granularities", ())
    rest = {n: v for n, v in kept.items() if n not in ("language", "language_hints")}
    if hints:
        rest["language_hints"] = hints
    return ModelRequest(language, context, words, MappingProxyType(rest), tuple(warnings))


def known_of(model: Model) -> list[dict[str, str]]:
    """Return what is to be said of every answer of the model."""
    if not model.is_llm:
        return []
    detail = (
        f"{model.name} is a language model that was asked to write down what it hears: it may "
        "paraphrase, and names neither the language nor times."
    )
    return [{"code": WarningCode.MAY_PARAPHRASE, "detail": detail}]


def rate_warning(said: int | None, found: Probed, *, strict: bool) -> OptionWarning | None:
    """Compare what the client says of the recording's sample rate with what it is.

    Raises OptionNotSupported where a difference meets `strict`.
    """
    # Opus has no rate of its own: whatever went in, 48,000 come out.
    if said is None or found.codec == "opus" or said == found.sample_rate:
        return None
    detail = f"`sample_rate` is {said} Hz, but the file has {found.sample_rate} Hz."
    if strict:
        raise OptionNotSupported(detail, parameter="sample_rate")
    detail += " The file's own rate is used."
    return _warning(WarningCode.SAMPLE_RATE_DIFFERS, "sample_rate", detail)


def _unknown(names: Sequence[str]) -> Iterator[OptionWarning]:
    for name in names:
        detail = f"The gateway does not know the parameter `{name}`."
        yield _warning(WarningCode.UNKNOWN_OPTION, name, detail)


def _unsupported(
    options: Options, model: Model, others: Callable[[], Iterable[Model]]
) -> Iterator[OptionWarning]:
    for name in MODEL_OPTIONS:
        value = getattr(options, name)
        is_words = name == "timestamp_granularities"
        is_asked = "word" in value if is_words else value not in (None, [])
        if not is_asked or _takes_option(model, name):
            continue
        cannot = "gives no times of single words" if is_words else f"does not take `{name}`"
        can = next((f"; {one.name} does" for one in others() if _takes_option(one, name)), "")
        yield _ignored(name, f"{model.name} {cannot}{can}.")


def _ineffective(options: Options, model: Model) -> Iterator[OptionWarning]:
    """Warn of what says more about another option that is off."""
    is_on = options.diarization_enabled and "diarization_enabled" in model.options
    if options.speaker_count and not is_on and "speaker_count" in model.options:
        yield _ignored("speaker_count", "`speaker_count` counts with `diarization_enabled` only.")


def _unverified(name: str, model: Model) -> OptionWarning:
    detail = f"The documents of {model.name} do not say that it takes `{name}`; it was sent along."
    return _warning(WarningCode.OPTION_UNVERIFIED, name, detail)


def _takes_option(model: Model, name: str) -> bool:
    if name == "timestamp_granularities":
        return model.word_times
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
        # Any one of them would be forced upon speech in the others.
        detail = f"{model.name} takes one language or none: it was left to detect it."
        return None, [], [*warnings, _ignored("language_hints", detail)]
    return known[0], [], warnings


def plain_language(tag: str) -> str:
    """Return the language of a tag without its region: `zh-CN` is `zh`."""
    return tag.split("-", 1)[0].lower()


def _writes_figures(model: Model, language: str) -> bool:
    return not model.itn_languages or language in model.itn_languages


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


def _ignored(option: str, reason: str) -> OptionWarning:
    return _warning(WarningCode.OPTION_IGNORED, option, reason)


def _warning(code: WarningCode, option: str, detail: str) -> OptionWarning:
    return {"code": code, "option": option, "detail": detail}
