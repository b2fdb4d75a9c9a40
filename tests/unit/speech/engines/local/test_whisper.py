"""The code around the model: prompts by language, and invented segments.

Covers: app.speech.engines.local.whisper
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from app.speech.engines.local import whisper
from app.speech.engines.local.whisper import PROMPT_TOKENS, Whisper, WhisperRequest


class Letters:
    """A tokenizer with one token a character."""

    def encode(self, text: str, *, add_special_tokens: bool) -> SimpleNamespace:
        assert not add_special_tokens
        return SimpleNamespace(ids=[ord(c) for c in text])

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


def segment(text: str, start: float, end: float, **marks: float) -> SimpleNamespace:
    sure = {"avg_logprob": -0.3, "no_speech_prob": 0.1, "compression_ratio": 1.0, **marks}
    return SimpleNamespace(text=text, start=start, end=end, words=None, **sure)


class FakeModel:
    """A model of faster_whisper that returns a script and records its calls."""

    def __init__(self, *script: SimpleNamespace, heard: str = "zh") -> None:
        self.hf_tokenizer = Letters()
        self.script = script
        self.heard = heard
        self.asked: dict[str, Any] = {}

    def detect_language(self, *, audio: Any) -> tuple[str, float, list[tuple[str, float]]]:
        assert len(audio)
        return self.heard, 0.9, [(self.heard, 0.9), ("en", 0.05), ("fr", 0.01)]

    def transcribe(self, _audio: Any, **asked: Any) -> tuple[Any, None]:
        self.asked = asked
        return iter(self.script), None


@pytest.fixture(autouse=True)
def _all_is_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faster_whisper")
    monkeypatch.setattr(whisper, "_find_speech", lambda s: [{"start": 0, "end": s.size}])


def transcribe(
    model: FakeModel, *, multilingual: bool = True, **options: Any
) -> whisper.WhisperOutput:
    loaded = Whisper.__new__(Whisper)
    loaded._model = model
    loaded._multilingual = multilingual
    pcm = np.zeros(160_000, "<i2").tobytes()
    return loaded.transcribe(WhisperRequest(pcm, **options), lambda: None, lambda _text: None)


def test_detected_mandarin_gets_the_prompt_for_simplified_characters() -> None:
    model = FakeModel(segment(" 你好。", 0, 1), segment("世界。", 1, 2))
    heard = transcribe(model)
    assert (heard.text, heard.language) == ("你好。世界。", "zh")
    assert model.asked["hotwords"] == "以下是普通话的句子。"
    assert model.asked["language"] == "zh"


def test_hints_overrule_the_detected_language() -> None:
    model = FakeModel()
    transcribe(model, hints=("fr", "en"))
    assert model.asked["language"] == "en"


def test_an_english_model_is_always_called_with_english() -> None:
    model = FakeModel(segment("hi", 0, 1))
    assert transcribe(model, multilingual=False, language="zh").language == "en"
    assert model.asked["hotwords"] is None


def test_context_follows_the_opening_sentence() -> None:
    model = FakeModel()
    heard = transcribe(model, language="zh", context="语音网关")
    assert model.asked["hotwords"] == "以下是普通话的句子。语音网关"
    assert not heard.is_context_cut


def test_a_context_that_is_too_long_keeps_its_last_tokens() -> None:
    model = FakeModel()
    heard = transcribe(model, language="zh", context="a" * 500 + "z")
    prompt = model.asked["hotwords"]
    assert heard.is_context_cut
    assert prompt.startswith("以下是普通话的句子。aaa")
    assert prompt.endswith("z")
    assert PROMPT_TOKENS - 2 <= len(f" {prompt}") <= PROMPT_TOKENS


@pytest.mark.parametrize(
    "made_up",
    [
        segment("这种人," * 70, 3.7, 4.1, no_speech_prob=0.99, compression_ratio=21.5),
        segment("la " * 70, 3.7, 4.1, compression_ratio=20.0),
        segment("Thank you.", 3, 4, no_speech_prob=0.8, avg_logprob=-1.2),
    ],
)
def test_segments_invented_over_a_pause_are_dropped(made_up: SimpleNamespace) -> None:
    heard = transcribe(FakeModel(segment("Hello.", 0, 3), made_up, segment("Bye.", 4, 5)))
    assert heard.text == "Hello. Bye."
    assert len(heard.segments) == 2


@pytest.mark.parametrize(
    "real",
    [
        segment("no " * 20, 0, 8, compression_ratio=8.0),
        segment("mumbled", 0, 1, avg_logprob=-1.4),
        segment("over music", 0, 1, no_speech_prob=0.9),
    ],
)
def test_speech_with_one_sign_of_invention_is_kept(real: SimpleNamespace) -> None:
    assert transcribe(FakeModel(real)).text == real.text.strip()


def test_audio_without_speech_has_the_requested_language_or_none() -> None:
    assert transcribe(FakeModel()).language is None
    assert transcribe(FakeModel(), language="fr").language == "fr"
