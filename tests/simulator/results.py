"""Result files of tasks: one shape for qwen3, another for the other models (3.4)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.simulator.audio import Audio
from tests.simulator.models import Model
from tests.simulator.orders import Order
from tests.simulator.sentences import Sentence, Word, joined
from tests.simulator.speech import Speech

Json = dict[str, Any]


@dataclass(frozen=True)
class Heard:
    """The speech of one channel."""

    channel: int
    said: Speech
    sentences: list[Sentence]

    @property
    def speech_ms(self) -> int:
        return sum(word.end_ms - word.begin_ms for one in self.sentences for word in one.words)

    @property
    def speech_seconds(self) -> int:
        """The billed seconds of speech."""
        return math.ceil(self.speech_ms / 1000)


def heard(said: Speech, audio: Audio, order: Order) -> Heard:
    at_marks = bool(order.options.get("enable_words")) or not order.model.is_filetrans
    return Heard(order.channel, said, said.told(audio.seconds, at_marks=at_marks))


def file_of(url: str, audio: Audio, channels: list[Heard], order: Order) -> Json:
    """Return the result of one recording."""
    make = _filetrans if order.model.is_filetrans else _others
    return {"file_url": url, **make(url, audio, channels, order)}


def _filetrans(url: str, audio: Audio, channels: list[Heard], order: Order) -> Json:
    has_words = bool(order.options.get("enable_words"))
    return {
        "audio_info": {"format": _container(url, audio), "sample_rate": audio.form.rate},
        "transcripts": [
            {
                "channel_id": one.channel,
                "text": joined(one.sentences),
                "sentences": [
                    {
                        **_sentence(at, sentence),
                        "language": sentence.language or one.said.language,
                        "emotion": sentence.emotion or one.said.emotion,
                        "text": sentence.text,
                        **({"words": _words(sentence)} if has_words else {}),
                    }
                    for at, sentence in enumerate(one.sentences)
                ],
            }
            for one in channels
        ],
    }


def _others(url: str, audio: Audio, channels: list[Heard], order: Order) -> Json:
    return {
        "properties": {
            "audio_format": audio.form.codec,
            "channels": [one.channel for one in channels],
            "original_sampling_rate": audio.form.rate,
            "original_duration_in_milliseconds": round(audio.seconds * 1000),
        },
        "transcripts": [
            {
                "channel_id": one.channel,
                "content_duration_in_milliseconds": one.speech_ms,
                "text": joined(one.sentences),
                "sentences": [
                    {
                        **_sentence(at, sentence),
                        "text": sentence.text,
                        **_speaker(at, sentence, order.options, order.model),
                        "words": _words(sentence),
                    }
                    for at, sentence in enumerate(one.sentences, 1)
                ],
            }
            for one in channels
        ],
    }


def _sentence(number: int, sentence: Sentence) -> Json:
    return {
        "sentence_id": number,
        "begin_time": sentence.begin_ms,
        "end_time": sentence.end_ms,
    }


def _speaker(number: int, sentence: Sentence, options: Mapping[str, Any], model: Model) -> Json:
    """Return the speaker if speakers were requested. Unnamed speakers alternate."""
    if options.get("diarization_enabled") is not True:
        return {}
    turn = (number - 1) % int(options.get("speaker_count") or 2)
    return {"speaker_id": turn if sentence.speaker is None else sentence.speaker}


def _words(sentence: Sentence) -> list[Json]:
    return [_word(word) for word in sentence.words]


def _word(word: Word) -> Json:
    return {
        "begin_time": word.begin_ms,
        "end_time": word.end_ms,
        "text": word.text,
        "punctuation": word.punctuation,
    }


def _container(url: str, audio: Audio) -> str:
    """Return the container's name; the URL's extension where ffmpeg has several names."""
    names = audio.form.container.split(",")
    ending = url.partition("?")[0].rpartition(".")[2].lower()
    return ending if ending in names else names[0]
