"""What is sent to DashScope's asynchronous route: a task in either of its two shapes. Pure."""

from collections.abc import Mapping
from typing import Any

from app.speech.engines.dashscope.sync_requests import HINTS, rounds
from app.speech.task_engine import TaskRequest

RESOLVED = "oss://"  # an address that the service finds only where it is asked to
_SHARED = (
    "diarization_enabled",
    "speaker_count",
    "channel_id",
    "vocabulary_id",
    "vocabulary",
    "special_word_filter",
    "disfluency_removal_enabled",
    "timestamp_alignment_enabled",
)


def file_url_ask(order: TaskRequest) -> Mapping[str, Any]:
    """Return the body of qwen3's own shape: one address, one language, words where asked for."""
    parameters: dict[str, Any] = {
        name: order.options[name] for name in ("channel_id", "enable_itn") if name in order.options
    }
    if order.words:
        parameters["enable_words"] = True
    if order.language:
        parameters["language"] = order.language
    if order.context:
        parameters["corpus"] = {"text": order.context}
    return {"model": order.model, "input": {"file_url": order.url}, "parameters": parameters}


def file_urls_ask(order: TaskRequest) -> Mapping[str, Any]:
    """Return the body of everybody else's: a list of one address, and hints of languages."""
    parameters = {name: order.options[name] for name in _SHARED if name in order.options}
    hints = [order.language] if order.language else order.options.get("language_hints")
    if hints:
        parameters["language_hints"] = list(hints)[:HINTS]
    given: dict[str, Any] = {"file_urls": [order.url]}
    if earlier := list(rounds(order.context)):
        given["context"] = [
            {"role": "user", "content": [{"type": "input_text", "text": said}]} for said in earlier
        ]
    # Of some models the parameters must be there even where there are none.
    return {"model": order.model, "input": given, "parameters": parameters}


def submit_headers(order: TaskRequest) -> Mapping[str, str]:
    """Return what a submit says beside its body."""
    headers = {"X-DashScope-Async": "enable"}
    if order.url.startswith(RESOLVED):
        headers["X-DashScope-OssResourceResolve"] = "enable"
    return headers
