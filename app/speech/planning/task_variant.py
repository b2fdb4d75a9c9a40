"""The choice between a model and its task variant, a model of the same family that works by tasks.

Pure. The task variant is used where it supports an option of the request and the model does not.
"""

from app.speech.catalogue import CatalogueModel
from app.speech.options import Options
from app.speech.planning.fit_options import OptionWarning
from app.speech.warning_codes import WarningCode

_FEATURES = {
    "diarization_enabled": "speaker diarization",
    "channel_id": "transcribing channels one by one",
}


def task_variants_of(asked: CatalogueModel, options: Options) -> tuple[str, ...]:
    """Return the names of the task variants of a model for a request, the best first."""
    names = (asked.diarization_model if options.diarization_enabled else "", asked.task_model)
    return tuple(name for name in names if name)


def select_model(
    asked: CatalogueModel, task_variant: CatalogueModel | None, options: Options, *, mode: str
) -> tuple[CatalogueModel, str]:
    """Return the model to use, and the reason if it is the task variant.

    `task_variant` is None where there is none, or where it cannot be called here. `mode` is the
    request's mode.
    """
    if task_variant is None or mode == "stream":
        return asked, ""
    features = [
        feature
        for name, feature in _FEATURES.items()
        if getattr(options, name) and name in task_variant.options and name not in asked.options
    ]
    wants_words = "word" in options.timestamp_granularities
    if wants_words and task_variant.word_times and not asked.word_times:
        features.append("times of words")
    if mode == "async":
        features.append("`mode=async`")
    if not features:
        return asked, ""
    return task_variant, f"{task_variant.name} replaces {asked.name} for {features[0]}"


def replacement_warning(options: Options, model_reason: str) -> list[OptionWarning]:
    """Return a warning if the request names a model and another one is used."""
    if not options.model or not model_reason:
        return []
    code = WarningCode.MODEL_REPLACED
    return [{"code": code, "option": "model", "detail": f"{model_reason}."}]
