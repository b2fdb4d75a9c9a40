"""Servers that speak OpenAI's wire, above all vLLM with the open Qwen3-ASR weights.

`chat` keeps the language that the model detects; `transcriptions` loses it, but is spoken by
every server of this kind.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from app.net.http.exchange import Answer, Body
from app.net.http.multipart_body import FilePart, multipart_body
from app.speech.engine import DeltaSink, EngineAnswer, EngineRequest
from app.speech.engines.http.account import ProviderAccount
from app.speech.engines.http.admission import CallAdmission
from app.speech.engines.http.chat_stream import ChatStream, parse_chat_usage
from app.speech.engines.http.engine import RemoteEngine, StreamFormat, WireFormat
from app.speech.engines.http.json_body import (
    CUT_AT_LENGTH,
    AudioPlaceholder,
    file_of,
    json_with_audio,
    malformed_response,
    member,
    read_object,
    text_of,
)
from app.speech.engines.http.qwen_output import begun_in, read_raw
from app.speech.engines.openai.errors import parse_error, parse_stream_error

NAME = "openai"
MOST_TOKENS = 4096
OK = 200

Form = Literal["chat", "transcriptions"]


def openai_compatible(
    bundle: ProviderAccount,
    models: Iterable[str],
    form: Form,
    admission: CallAdmission,
    *,
    answer_seconds: float,
) -> RemoteEngine:
    """Return the engine for these upstream models, all asked in one form."""
    dialect = _DIALECTS[form]
    dialects = dict.fromkeys(models, dialect)
    return RemoteEngine(NAME, bundle, dialects, admission, answer_seconds=answer_seconds)


def write_chat(request: EngineRequest, **more: Any) -> Body:
    """Ask as a chat; a language is forced by beginning the answer in it."""
    hole = AudioPlaceholder()
    sound = {"type": "audio_url", "audio_url": {"url": hole.mark}}
    messages: list[dict[str, Any]] = [{"role": "user", "content": [sound]}]
    if request.context:
        messages.insert(0, {"role": "system", "content": request.context})
    ask: dict[str, Any] = {"model": request.model, "messages": messages}
    ask |= {"temperature": 0, "max_tokens": MOST_TOKENS, **more}
    if request.language and (begun := begun_in(request.language)):
        messages.append({"role": "assistant", "content": begun})
        ask |= {"continue_final_message": True, "add_generation_prompt": False}
    return json_with_audio(ask, hole, file_of(request))


def write_streamed_chat(request: EngineRequest) -> Body:
    """Ask as a chat whose answer comes piece by piece, with its usage at the end."""
    return write_chat(request, stream=True, stream_options={"include_usage": True})


def read_chat(request: EngineRequest, answer: Answer) -> EngineAnswer:
    """Read a chat's answer. Raises EngineError."""
    body = _object(answer)
    choice = member(body, "choices", 0)
    content = member(choice, "message", "content")
    if not isinstance(content, str):
        raise malformed_response("an answer without choices[0].message.content")
    text, language = read_raw(content)
    return EngineAnswer(
        text=text,
        language=language or request.language,
        usage=parse_chat_usage(body.get("usage")),
        request_id=text_of(body.get("id")) or None,
        warnings=(CUT_AT_LENGTH,) if member(choice, "finish_reason") == "length" else (),
        raw=body,
    )


def write_transcription(request: EngineRequest) -> Body:
    """Ask by a form, its file last."""
    fields = {"model": request.model, "response_format": "json"}
    if request.language:
        fields["language"] = request.language
    if request.context:
        fields["prompt"] = request.context
    sound = file_of(request)
    file = FilePart(f"part.{sound.form}", sound.media_type, len(sound.data), lambda: (sound.data,))
    return multipart_body(fields, file)


def read_transcription(request: EngineRequest, answer: Answer) -> EngineAnswer:
    """Read a transcription's answer. Raises EngineError."""
    body = _object(answer)
    if not isinstance(body.get("text"), str):
        raise malformed_response("an answer without text")
    return EngineAnswer(
        text=body["text"].strip(),
        language=request.language,
        usage=parse_chat_usage(body.get("usage")),
        request_id=answer.headers.get("x-request-id"),
        raw=body,
    )


def _gather(request: EngineRequest, tell: DeltaSink) -> ChatStream:
    return ChatStream(request, tell, parse_stream_error)


_STREAMED_CHAT = StreamFormat(write_streamed_chat, _gather, {"Accept": "text/event-stream"})
_DIALECTS: Mapping[Form, WireFormat] = {
    "chat": WireFormat("/v1/chat/completions", write_chat, read_chat, _STREAMED_CHAT),
    "transcriptions": WireFormat(
        "/v1/audio/transcriptions", write_transcription, read_transcription
    ),
}


def _object(answer: Answer) -> dict[str, Any]:
    if answer.status != OK:
        raise parse_error(answer.status, answer.headers, answer.body)
    body = read_object(answer.body)
    if body is None:
        raise malformed_response(f"an answer of {len(answer.body)} bytes that is not a JSON object")
    return body
