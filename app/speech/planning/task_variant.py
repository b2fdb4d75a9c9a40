"""Which of two sisters transcribes: the model that was asked for, or the one that does it by tasks.

Pure. What decides is what the caller wishes and the first one cannot give.
"""

from app.speech.catalogue import Model
from app.speech.options import Options
from app.speech.planning.fit_options import OptionWarning

MODEL_REPLACED = "model_replaced"
_BY_NAME = {
    "diarization_enabled": "telling speakers apart",
    "channel_id": "transcribing channels one by one",
}


def sisters_of(asked: Model, options: Options) -> tuple[str, ...]:
    """Return the names of the models that work by tasks for this one, the best first."""
    names = (asked.speakers if options.diarization_enabled else "", asked.filetrans)
    return tuple(name for name in names if name)


def chosen(asked: Model, sister: Model | None, options: Options, *, mode: str) -> tuple[Model, str]:
    """Return the model to use and why, in words; no words where it is the one asked for.

    `sister` is the model of tasks that stands beside it, None where there is none or its engine is
    not switched on here. `mode` is how the caller wants to be answered.
    """
    if sister is None or mode == "stream":
        return asked, ""
    reason = _reason(asked, sister, options, mode)
    if not reason:
        return asked, ""
    return sister, f"{reason} is what {sister.name} does for {asked.name}"


def replaced(options: Options, because: str) -> list[OptionWarning]:
    """Return what a caller has to be told who named another model than the one used."""
    if not options.model or not because:
        return []
    return [{"code": MODEL_REPLACED, "option": "model", "detail": f"{because}; it was used."}]


def _reason(asked: Model, sister: Model, options: Options, mode: str) -> str:
    for name, words in _BY_NAME.items():
        if getattr(options, name) and name in sister.options and name not in asked.options:
            return words
    is_word = "word" in options.timestamp_granularities
    if is_word and sister.word_times and not asked.word_times:
        return "giving the times of words"
    return "`mode=async`" if mode == "async" else ""
