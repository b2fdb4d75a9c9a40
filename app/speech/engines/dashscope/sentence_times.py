"""Times of sentences and words in DashScope's answers, which may be missing or impossible. Pure.

A sentence is never left out for its times: they are corrected, and the correction is counted.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from app.speech.engines.http.json_reading import member, text_of
from app.speech.transcript import Word

MILLIS = 1000
MAX_MILLIS = 10**9  # 11 days: no recording is as long
SLACK_MILLIS = 1000  # by which engines round the end of an audio up


@dataclass(slots=True)
class SentenceTimes:
    """Reads the times of one answer. `length_ms` is the audio's length, where it is known."""

    length_ms: float | None
    corrected: int = 0
    has_times: bool = False
    _last_end: float = field(default=0.0, init=False)

    def place(self, sentences: Sequence[Any]) -> list[tuple[float, float, Mapping[str, Any]]]:
        """Return each sentence that has text, with its start and end in seconds."""
        with_text = [
            one for one in sentences if isinstance(one, dict) and text_of(one.get("text")).strip()
        ]
        begins = [self._time(one, "begin_time") for one in with_text]
        placed: list[tuple[float, float, Mapping[str, Any]]] = []
        self._last_end = 0.0
        for sentence, following in zip_longest(with_text, begins[1:]):
            start, end = self._span(sentence, following)
            placed.append((start / MILLIS, end / MILLIS, sentence))
        return placed

    def words(self, sentence: Mapping[str, Any], start: float) -> tuple[Word, ...]:
        """Return the words of a sentence that starts at `start` seconds."""
        listed = sentence.get("words")
        words = []
        self._last_end = start * MILLIS
        for word in listed if isinstance(listed, list) else ():
            text = text_of(member(word, "text")) + text_of(member(word, "punctuation"))
            if text:
                begin, end = self._span(word, None)
                words.append(
                    Word(
                        start=begin / MILLIS,
                        end=end / MILLIS,
                        text=text,
                        speaker=speaker_of(word),
                    )
                )
        return tuple(words)

    def warnings(self) -> tuple[str, ...]:
        """Return a warning where times were corrected."""
        if not self.corrected:
            return ()
        detail = (
            f"The engine returned impossible times for {self.corrected} sentences or words. "
            "They were corrected, so these times are not exact."
        )
        return (detail,)

    def _span(self, timed: Mapping[str, Any], following: float | None) -> tuple[float, float]:
        """Return start and end in ms. A missing start is the end of the sentence before."""
        begin, stop = self._time(timed, "begin_time"), self._time(timed, "end_time")
        self.has_times = self.has_times or begin is not None or stop is not None
        start = self._last_end if begin is None else max(begin, 0.0)
        end = stop
        if end is None or end < start:
            end = max(start, following or 0.0)
        last = None if not self.length_ms else self.length_ms + SLACK_MILLIS
        if last is not None and end > last:
            start, end = min(start, last - SLACK_MILLIS), last - SLACK_MILLIS
        if (start, end) != (begin, stop):
            self.corrected += 1
        self._last_end = end
        return start, end

    @staticmethod
    def _time(timed: Mapping[str, Any], name: str) -> float | None:
        value = timed.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value) if math.isfinite(value) and abs(value) <= MAX_MILLIS else None


def speaker_of(timed: Mapping[str, Any]) -> str | None:
    """Return the speaker of a sentence or a word as text, or None."""
    speaker = timed.get("speaker_id")
    return None if speaker is None else str(speaker)
