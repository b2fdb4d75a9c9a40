"""Request bodies of DashScope's asynchronous route, in its two forms. Pure."""

from collections.abc import Mapping
from typing import Any

from app.speech.engines.dashscope.sync_requests import MAX_HINTS, context_messages
from app.speech.task_engine import TaskRequest

TEMPORARY_URL = "oss://"  # the service reads such an address only if a header asks for it
_OPTIONS = (
    "diarization_enabled",
    "speaker_count",
    "channel_id",
    "vocabulary_id",
    "vocabulary",
    "special_word_filter",
    "disfluency_removal_enabled",
    "timestamp_alignment_enabled",
)


def file_url_request(request: TaskRequest) -> Mapping[str, Any]:
    """Return the body of the qwen3 form: one address, one language, word times if requested."""
    options = request.options
    parameters: dict[str, Any] = {
        name: options[name] for name in ("channel_id", "enable_itn") if name in options
    }
    if request.word_timestamps:
        parameters["enable_words"] = True
    if request.language:
        parameters["language"] = request.language
    if request.context:
        parameters["corpus"] = {"text": request.context}
    return {"model": request.model, "input": {"file_url": request.url}, "parameters": parameters}


def file_urls_request(request: TaskRequest) -> Mapping[str, Any]:
    """Return the body of the form of all other models: a list of one address, language hints."""
    options = request.options
    parameters = {name: options[name] for name in _OPTIONS if name in options}
    hints = [request.language] if request.language else options.get("language_hints")
    if hints:
        parameters["language_hints"] = list(hints)[:MAX_HINTS]
    task: dict[str, Any] = {"file_urls": [request.url]}
    if messages := list(context_messages(request.context)):
        task["context"] = [
            {"role": "user", "content": [{"type": "input_text", "text": text}]} for text in messages
        ]
    # Some models reject a request without parameters, even empty ones.
    return {"model": request.model, "input": task, "parameters": parameters}


def submit_headers(request: TaskRequest) -> Mapping[str, str]:
    """Return the headers of a submit."""
    headers = {"X-DashScope-Async": "enable"}
    if request.url.startswith(TEMPORARY_URL):
        headers["X-DashScope-OssResourceResolve"] = "enable"
    return headers
