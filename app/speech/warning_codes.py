"""Every warning code that a transcription or an estimate can carry in `warnings[]`.

`docs/warnings.md` is written from this module.
"""

from enum import StrEnum


class WarningCode(StrEnum):
    """A stable code; `EXPLANATIONS` has its meaning for API clients."""

    AUDIO_DAMAGED = "audio_damaged"
    AUDIO_DECODED = "audio_decoded"
    ENGINE_WARNING = "engine_warning"
    FAILOVER_USED = "failover_used"
    GAP = "gap"
    MAY_PARAPHRASE = "may_paraphrase"
    MODEL_REPLACED = "model_replaced"
    OPTION_IGNORED = "option_ignored"
    OPTION_UNVERIFIED = "option_unverified"
    PARTLY_FAILED = "partly_failed"
    REPETITION = "repetition"
    SAMPLE_RATE_DIFFERS = "sample_rate_differs"
    UNKNOWN_OPTION = "unknown_option"


EXPLANATIONS = {
    WarningCode.AUDIO_DAMAGED: "The file may be damaged or incomplete: it ends before the length "
    "that its header gives, or a part of it could not be decoded. The transcript covers the audio "
    "that was decoded.",
    WarningCode.AUDIO_DECODED: "The engine rejected the file in the format in which the gateway "
    "received it. The gateway decoded the audio and sent it again.",
    WarningCode.ENGINE_WARNING: "The engine added a remark to its answer, for example that the "
    "context was shortened. `detail` is the remark.",
    WarningCode.FAILOVER_USED: "The model's own account could not be used. Another account or "
    "region transcribed the parts that `detail` counts, at its own prices.",
    WarningCode.GAP: "The span from `start` to `end` has no text, because its part could not be "
    "transcribed. `detail` names the error. `coverage` is below 1. Only with `on_gap=keep`.",
    WarningCode.MAY_PARAPHRASE: "The model is a language model. It may write other words than were "
    "spoken, and it returns neither the language nor times.",
    WarningCode.MODEL_REPLACED: "Another model than the requested one transcribed the audio, "
    "because only that model supports an option of the request. `detail` names both.",
    WarningCode.OPTION_IGNORED: "The model does not support the option in `option`, or not its "
    "value. The option had no effect. With `strict=true` the request is rejected instead.",
    WarningCode.OPTION_UNVERIFIED: "The option in `option` was sent to the model, but the "
    "provider does not document that the model supports it. It may have had no effect.",
    WarningCode.PARTLY_FAILED: "The provider transcribed some files of the task and failed on "
    "others. `detail` names the file and the provider's error code.",
    WarningCode.REPETITION: "The model repeated the same words between `start` and `end`; they "
    "were probably not spoken so often. `detail` says whether a second try gave a better text.",
    WarningCode.SAMPLE_RATE_DIFFERS: "`sample_rate` in the request differs from the sample rate in "
    "the file. The file's own rate is used. With `strict=true` the request is rejected instead.",
    WarningCode.UNKNOWN_OPTION: "The request has a parameter that the gateway does not know. It "
    "had no effect. With `strict=true` the request is rejected instead.",
}

REPETITION_DETAILS = {
    "mended": "The model repeated the same words here. The part was transcribed again in two "
    "halves, and the new text is used.",
    "kept": "The model repeated the same words here, also on a second try in two halves. The text "
    "with less repetition is used. Please check this part.",
    "alone": "The model repeated the same words here. A second try was not possible or failed. "
    "Please check this part.",
}
"""Details of `repetition`, by the outcome of the second try."""
