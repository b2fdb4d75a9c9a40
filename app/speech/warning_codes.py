"""Codes of the warnings that a transcription can carry, and the sentences that go with them."""

GAP = "gap"  # a span of the audio has no text; the warning names it
DAMAGED = "audio_damaged"
REPETITION = {
    "mended": "The engine repeated itself here and was asked again in two halves: theirs is the "
    "text.",
    "kept": "The engine repeated itself here, and again when it was asked in two halves; the text "
    "with less of that was kept.",
    "alone": "The engine repeated itself here. There is no pause to ask it again in two halves, "
    "or that failed.",
}
