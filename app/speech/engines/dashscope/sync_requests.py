"""What is sent to DashScope's synchronous route: one request in either of its two shapes. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from app.speech.engine import SAMPLE_RATE, EngineRequest
from app.speech.engines.http.json_body import AudioPlaceholder, file_of

ROUNDS = 5  # of earlier messages that the input-audio shape takes
ROUND_CHARACTERS = 400
HINTS = 4
CONTEXT_CUT = "`context` is longer than the model takes; its end was left out."


def qwen3_ask(request: EngineRequest, hole: AudioPlaceholder) -> Mapping[str, Any]:
    """Return the body of the qwen3 shape: context is a system message, one language at most."""
    messages: list[dict[str, Any]] = []
    if request.context:
        messages.append({"role": "system", "content": [{"text": request.context}]})
    messages.append({"role": "user", "content": [{"audio": hole.mark}]})
    asr_options: dict[str, Any] = {}
    if request.language:
        asr_options["language"] = request.language
    if "enable_itn" in request.options:
        asr_options["enable_itn"] = request.options["enable_itn"]
    return {
        "model": request.model,
        "input": {"messages": messages},
        "parameters": {"result_format": "message", "asr_options": asr_options},
    }


def qwen3_streamed_ask(request: EngineRequest, hole: AudioPlaceholder) -> Mapping[str, Any]:
    """Return the same for a stream: each frame is to hold what is new, not all text so far."""
    asked = qwen3_ask(request, hole)
    return {**asked, "parameters": {**asked["parameters"], "incremental_output": True}}


def input_audio_ask(request: EngineRequest, hole: AudioPlaceholder) -> Mapping[str, Any]:
    """Return the body of the input-audio shape: context is what was said before, sound is last."""
    # The official client says 16000 whatever the file's own rate is: it counts for bare PCM only.
    form = file_of(request).form
    parameters: dict[str, Any] = {"format": form, "sample_rate": str(SAMPLE_RATE)}
    hints = [request.language] if request.language else request.options.get("language_hints")
    if hints:
        parameters["language_hints"] = list(hints)[:HINTS]
    for name in ("vocabulary_id", "vocabulary"):
        if name in request.options:
            parameters[name] = request.options[name]
    sound = {"type": "input_audio", "input_audio": {"data": hole.mark}}
    earlier = ({"type": "input_text", "text": said} for said in rounds(request.context))
    messages = [{"role": "user", "content": [content]} for content in (*earlier, sound)]
    return {"model": request.model, "input": {"messages": messages}, "parameters": parameters}


def rounds(context: str | None) -> Iterator[str]:
    """Cut a context into the messages it may be given as."""
    text = " ".join((context or "").split())
    for start in range(0, min(len(text), ROUNDS * ROUND_CHARACTERS), ROUND_CHARACTERS):
        yield text[start : start + ROUND_CHARACTERS]


def is_context_cut(context: str | None) -> bool:
    """Tell whether `rounds` leaves some of a context out."""
    return len(" ".join((context or "").split())) > ROUNDS * ROUND_CHARACTERS
