"""Request bodies of DashScope's synchronous route, in its two forms. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from app.speech.engine import SAMPLE_RATE, EngineRequest
from app.speech.engines.http.json_body import AUDIO_MARK, encoded_audio

MAX_CONTEXT_MESSAGES = 5  # that the input-audio form accepts
CONTEXT_MESSAGE_CHARACTERS = 400
MAX_HINTS = 4
CONTEXT_CUT = "`context` is longer than the model takes; its end was left out."


def qwen3_request(request: EngineRequest, *, streamed: bool = False) -> Mapping[str, Any]:
    """Return the body of the qwen3 form: the context is a system message, one language at most.

    The frames of a stream are requested to be incremental.
    """
    messages: list[dict[str, Any]] = []
    if request.context:
        messages.append({"role": "system", "content": [{"text": request.context}]})
    messages.append({"role": "user", "content": [{"audio": AUDIO_MARK}]})
    asr_options: dict[str, Any] = {}
    if request.language:
        asr_options["language"] = request.language
    if "enable_itn" in request.options:
        asr_options["enable_itn"] = request.options["enable_itn"]
    parameters: dict[str, Any] = {"result_format": "message", "asr_options": asr_options}
    if streamed:
        parameters["incremental_output"] = True
    return {"model": request.model, "input": {"messages": messages}, "parameters": parameters}


def input_audio_request(request: EngineRequest) -> Mapping[str, Any]:
    """Return the body of the input-audio form: the context is earlier messages, audio is last."""
    # The official client sends 16000 whatever the file's own rate is: it counts for bare PCM only.
    audio_format = encoded_audio(request).format
    parameters: dict[str, Any] = {"format": audio_format, "sample_rate": str(SAMPLE_RATE)}
    hints = [request.language] if request.language else request.options.get("language_hints")
    if hints:
        parameters["language_hints"] = list(hints)[:MAX_HINTS]
    for name in ("vocabulary_id", "vocabulary"):
        if name in request.options:
            parameters[name] = request.options[name]
    audio = {"type": "input_audio", "input_audio": {"data": AUDIO_MARK}}
    earlier = ({"type": "input_text", "text": text} for text in context_messages(request.context))
    messages = [{"role": "user", "content": [content]} for content in (*earlier, audio)]
    return {"model": request.model, "input": {"messages": messages}, "parameters": parameters}


def context_messages(context: str | None) -> Iterator[str]:
    """Cut a context into the messages that can hold it."""
    text = " ".join((context or "").split())
    end = min(len(text), MAX_CONTEXT_MESSAGES * CONTEXT_MESSAGE_CHARACTERS)
    for start in range(0, end, CONTEXT_MESSAGE_CHARACTERS):
        yield text[start : start + CONTEXT_MESSAGE_CHARACTERS]


def is_context_cut(context: str | None) -> bool:
    """Return whether `context_messages` leaves out the end of a context."""
    text = " ".join((context or "").split())
    return len(text) > MAX_CONTEXT_MESSAGES * CONTEXT_MESSAGE_CHARACTERS
