"""Which of two sisters transcribes: the model that was asked for, or the one that does it by tasks.

Pure. What decides is what the caller wishes and the first one cannot give.
"""

from app.speech.catalogue import Model
from app.speech.options import Options
from app.speech.planning.fit_options import OptionWarning
from app.speech.warning_codes import WarningCode

_BY_NAME = {
    "diarization_enabled": "telling speakers apart",
    "channel_id": "transcribing channels one by one",
}


def task_variants_of(asked: Model, options: Options) -> tuple[str, ...]:
    """Return the names of the models that work by tasks for this one, the best first."""
    names = (asked.diarization_model if options.diarization_enabled else "", asked.task_model)
    return tuple(name for name in names if name)


def select_model(
    asked: Model, task_variant: Model | None, options: Options, *, mode: str
) -> tuple[Model, str]:
    """Return the model to use and why, in words; no words where it is the one asked for.

    `sister` is the model of tasks that stands beside it, None where there is none or its engine is
    not switched on here. `mode` is how the caller wants to be answered.
    """
    if task_variant is None or mode == "stream":
        return asked, ""
    reason = _reason(asked, task_variant, options, mode)
    if not reason:
        return asked, ""
    return task_variant, f"{reason} is what {task_variant.name} does for {asked.name}"


def replacement_warning(options: Options, model_reason: str) -> list[OptionWarning]:
    """Return what a caller has to be told who named another model than the one used."""
    if not options.model or not model_reason:
        return []
    detail = f"{model_reason}; it was used."
    return [{"code": WarningCode.MODEL_REPLACED, "option": "model", "detail": detail}]


def _reason(asked: Model, task_variant: Model, options: Options, mode: str) -> str:
    for name, words in _BY_NAME.items():
        if getattr(options, name) and name in task_variant.options and name not in asked.options:
            return words
    is_word = "word" in options.timestamp_granularities
    if is_word and task_variant.word_times and not asked.word_times:
        return "giving the times of words"
    return "`mode=async`" if mode == "async" else ""
