"""The text of tests/media/en_clean_10s.wav, and the word error rate of a transcript of it."""

import jiwer

SAMPLE_TEXT = (
    "and mr john dashwood had then leisure to consider how much there might be prudently in his "
    "power to do for them he was not an ill disposed young man"
)
_PLAIN = jiwer.Compose(
    [
        jiwer.ToLowerCase(),
        jiwer.SubstituteRegexes({"-": " "}),
        jiwer.RemovePunctuation(),
        jiwer.Strip(),
        jiwer.ReduceToListOfListOfWords(),
    ]
)


def word_error_rate(text: str) -> float:
    """Return the share of wrong words; case and punctuation do not count."""
    rate = jiwer.wer(SAMPLE_TEXT, text, reference_transform=_PLAIN, hypothesis_transform=_PLAIN)
    assert isinstance(rate, float)
    return rate
