"""One Whisper model in memory: PCM in, segments out. Every call blocks: for threads only.

The constants below were measured on the base model. Each one keeps Whisper from inventing words or
times. It never gets a file, because the decoder of faster-whisper holds a whole file in memory and
trusts its header.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.speech.engine import SAMPLE_RATE
from app.speech.merge import join_texts, separator_between
from app.speech.transcript import Segment, Word

FULL_SCALE = 32768.0
MIN_SILENCE_MS = 500
SPEECH_PAD_MS = 200
# Audio that fits into one window of Whisper gains nothing from a tight cut, and may lose its first
# syllable: of ten spoken Mandarin digits half were wrong with 200 ms, none with 400.
WINDOW_SECONDS = 30
WIDE_PAD_MS = 400
DECODING = {
    "beam_size": 1,  # 5 costs twice the time for one word in a hundred
    "temperature": 0.0,  # the default list of fallbacks spends 12 s on half a second of noise
    "condition_on_previous_text": False,  # one invented phrase leads to the next
    "no_speech_threshold": 0.6,
    "compression_ratio_threshold": 2.4,
    "vad_filter": False,  # done here, once, for detection and transcription
}
# Signs of an invented segment. Each of them alone occurs in real speech as well.
UNSURE_LOGPROB = -1.0
NO_SPEECH = 0.6
REPETITIVE_RATIO = 2.4
MAX_CHARACTERS_PER_SECOND = 40.0  # of speech; a loop of 223 characters took 0.4 s
# Half of the 448-token text window, less one (faster_whisper 1.2.1, WhisperModel.get_prompt).
PROMPT_TOKENS = 223

# A sentence in the desired script: without it the output for Mandarin has traditional characters
# and no punctuation.
LANGUAGE_PROMPTS = {"zh": "以下是普通话的句子。"}

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]
SegmentSink = Callable[[str], None]
Check = Callable[[], None]
"""Raises an exception once the call is cancelled. Called between segments."""


@dataclass(frozen=True, slots=True)
class WhisperRequest:
    """One call: 16 kHz mono PCM and its options, as plain values for a thread."""

    pcm: bytes
    language: str | None = None
    hints: tuple[str, ...] = ()
    context: str | None = None
    word_timestamps: bool = False


@dataclass(frozen=True, slots=True)
class WhisperOutput:
    text: str
    language: str | None
    segments: tuple[Segment, ...]
    is_context_cut: bool


class Whisper:
    """A loaded model. As many threads may call it at once as it has workers."""

    def __init__(self, folder: Path, *, threads: int, workers: int) -> None:
        from faster_whisper import WhisperModel  # noqa: PLC0415 - an extra, and 0.3 s to import

        self._model = WhisperModel(
            str(folder),
            device="cpu",
            compute_type="int8",
            cpu_threads=threads,
            num_workers=workers,
        )
        self._multilingual = bool(self._model.model.is_multilingual)

    def warm(self) -> None:
        """Transcribe a second of silence, because the first run of a process allocates memory."""
        import numpy as np  # noqa: PLC0415 - 17 MB that an idle process saves

        samples = np.zeros(SAMPLE_RATE, np.float32)
        for _ in self._model.transcribe(samples, language="en", **DECODING)[0]:
            pass

    def transcribe(self, request: WhisperRequest, check: Check, sink: SegmentSink) -> WhisperOutput:
        """Transcribe. `sink` gets the text of each segment with the space before it."""
        check()
        import numpy as np  # noqa: PLC0415

        samples = np.frombuffer(request.pcm, "<i2").astype(np.float32) / FULL_SCALE
        speech = _find_speech(samples)
        if not speech:
            return WhisperOutput("", request.language, (), is_context_cut=False)
        voiced = np.concatenate([samples[span["start"] : span["end"]] for span in speech])
        language = request.language if self._multilingual else "en"
        if not language:
            best, _, ranked = self._model.detect_language(audio=voiced)
            language = next((code for code, _ in ranked if code in request.hints), str(best))
            check()
        prompt, is_cut = self._prompt(language, request.context)
        segments = []
        text = ""
        for segment in self._segments(
            voiced, speech, language, prompt, word_timestamps=request.word_timestamps
        ):
            check()
            sink(separator_between(text, segment.text) + segment.text)
            text = join_texts((text, segment.text))
            segments.append(segment)
        found = language if text else request.language
        return WhisperOutput(text, found, tuple(segments), is_cut)

    def _prompt(self, language: str, context: str | None) -> tuple[str | None, bool]:
        """Return the prompt, and whether the beginning of the context was cut off."""
        opening = LANGUAGE_PROMPTS.get(language, "")
        if not context or not context.strip():
            return opening or None, False
        tokenizer = self._model.hf_tokenizer
        used = len(tokenizer.encode(f" {opening}", add_special_tokens=False).ids)
        encoded = tokenizer.encode(f" {context.strip()}", add_special_tokens=False).ids
        room = PROMPT_TOKENS - used - 1
        if len(encoded) <= room:
            return join_texts((opening, context)), False
        # A cut between the bytes of one character leaves replacement characters.
        kept = tokenizer.decode(encoded[-room:]).strip().lstrip("\ufffd")
        return join_texts((opening, kept)), True

    def _segments(
        self,
        voiced: "Samples",
        speech: list[dict[str, int]],
        language: str,
        prompt: str | None,
        *,
        word_timestamps: bool,
    ) -> Iterator[Segment]:
        from faster_whisper.transcribe import restore_speech_timestamps  # noqa: PLC0415

        # `initial_prompt` is used for the first 30 s only, because no text is carried over between
        # windows. `hotwords` are at the same place of the prompt of every window.
        found, _ = self._model.transcribe(
            voiced, language=language, hotwords=prompt, word_timestamps=word_timestamps, **DECODING
        )
        for raw in restore_speech_timestamps(_without_hallucinations(found), speech, SAMPLE_RATE):
            if text := raw.text.strip():
                yield Segment(
                    start=round(raw.start, 2),
                    end=round(raw.end, 2),
                    text=text,
                    timing="upstream",
                    language=language,
                    words=tuple(
                        Word(
                            start=round(float(word.start), 2),
                            end=round(float(word.end), 2),
                            text=word.word.strip(),
                        )
                        for word in raw.words or ()
                    ),
                )


def _find_speech(samples: "Samples") -> list[dict[str, int]]:
    from faster_whisper.vad import VadOptions, get_speech_timestamps  # noqa: PLC0415

    if not samples.size:
        return []
    fits = samples.size <= WINDOW_SECONDS * SAMPLE_RATE
    pad = WIDE_PAD_MS if fits else SPEECH_PAD_MS
    options = VadOptions(min_silence_duration_ms=MIN_SILENCE_MS, speech_pad_ms=pad)
    return list(get_speech_timestamps(samples, options))


def _without_hallucinations(found: Iterable[Any]) -> Iterator[Any]:
    """Drop hallucinated segments: unsure or repetitive ones with hardly any speech."""
    for raw in found:
        silent = raw.no_speech_prob > NO_SPEECH
        too_fast = len(raw.text) > MAX_CHARACTERS_PER_SECOND * (raw.end - raw.start)
        repetitive = raw.compression_ratio > REPETITIVE_RATIO and (silent or too_fast)
        if not repetitive and not (silent and raw.avg_logprob < UNSURE_LOGPROB):
            yield raw
