"""OpenAI-compatible servers, above all vLLM with the open Qwen3-ASR weights.

The `chat` API reports the language that the model detects. The `transcriptions` API does not, but
every server of this kind has it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from app.net.http.exchange import OK, Answer, Body
from app.net.http.multipart_body import FilePart, multipart_body
from app.speech.engine import DeltaSink, EngineAnswer, EngineError, EngineRequest
from app.speech.engines.http.admission import CallAdmission
from app.speech.engines.http.chat_stream import ChatStream, parse_chat_usage
from app.speech.engines.http.engine import RemoteEngine
from app.speech.engines.http.failures import malformed_response, object_of
from app.speech.engines.http.json_body import AUDIO_MARK, encoded_audio, json_with_audio
from app.speech.engines.http.json_reading import member, text_of
from app.speech.engines.http.provider_account import ProviderAccount
from app.speech.engines.http.qwen_output import forced_output, parse_output
from app.speech.engines.http.wire_format import (
    CUT_AT_LENGTH,
    StreamedFormat,
    StreamParser,
    WireFormat,
)
from app.speech.engines.openai.errors import openai_error, openai_stream_error

NAME = "openai"
MAX_OUTPUT_TOKENS = 4096

Api = Literal["chat", "transcriptions"]


def openai_engine(
    account: ProviderAccount,
    models: Iterable[str],
    api: Api,
    admission: CallAdmission,
    *,
    timeout_seconds: float,
) -> RemoteEngine:
    """Return the engine for these upstream models, all of them called by the same API."""
    wire: WireFormat = ChatFormat() if api == "chat" else TranscriptionFormat()
    formats = dict.fromkeys(models, wire)
    return RemoteEngine(NAME, account, formats, admission, timeout_seconds=timeout_seconds)


class ChatFormat(StreamedFormat):
    """Chat completions. A language is forced by giving the beginning of the output."""

    route = "/v1/chat/completions"
    stream_headers = {"Accept": "text/event-stream"}  # noqa: RUF012 - see StreamedFormat

    def body(self, request: EngineRequest, *, streamed: bool) -> Body:
        """Return the body of a request; see WireFormat."""
        audio = {"type": "audio_url", "audio_url": {"url": AUDIO_MARK}}
        messages: list[dict[str, Any]] = [{"role": "user", "content": [audio]}]
        if request.context:
            messages.insert(0, {"role": "system", "content": request.context})
        value: dict[str, Any] = {
            "model": request.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": MAX_OUTPUT_TOKENS,
        }
        if streamed:
            value |= {"stream": True, "stream_options": {"include_usage": True}}
        if request.language and (output := forced_output(request.language)):
            messages.append({"role": "assistant", "content": output})
            value |= {"continue_final_message": True, "add_generation_prompt": False}
        return json_with_audio(value, encoded_audio(request))

    def parse(self, request: EngineRequest, answer: Answer) -> EngineAnswer:
        """Read an answer that is no stream; see WireFormat."""
        body = _successful_object(answer)
        choice = member(body, "choices", 0)
        content = member(choice, "message", "content")
        if not isinstance(content, str):
            raise malformed_response("an answer without choices[0].message.content")
        text, language = parse_output(content)
        return EngineAnswer(
            text=text,
            language=language or request.language,
            usage=parse_chat_usage(body.get("usage")),
            request_id=text_of(body.get("id")) or None,
            warnings=(CUT_AT_LENGTH,) if member(choice, "finish_reason") == "length" else (),
            raw=body,
        )

    def stream_parser(self, request: EngineRequest, on_delta: DeltaSink) -> StreamParser:
        """Return a parser for one stream; see StreamedFormat."""
        return OpenAIChatStream(request, on_delta)


class OpenAIChatStream(ChatStream):
    """A chat stream whose errors are classified by the OpenAI table."""

    def parse_error(self, body: bytes) -> EngineError:
        """Return the error of a chunk."""
        return openai_stream_error(body)


class TranscriptionFormat(WireFormat):
    """Transcriptions: a form with the file. It is never streamed."""

    route = "/v1/audio/transcriptions"

    def body(self, request: EngineRequest, *, streamed: bool) -> Body:  # noqa: ARG002 - never
        """Return the body of a request; see WireFormat."""
        fields = {"model": request.model, "response_format": "json"}
        if request.language:
            fields["language"] = request.language
        if request.context:
            fields["prompt"] = request.context
        audio = encoded_audio(request)
        file = FilePart(
            f"part.{audio.format}", audio.media_type, len(audio.data), lambda: (audio.data,)
        )
        return multipart_body(fields, file)

    def parse(self, request: EngineRequest, answer: Answer) -> EngineAnswer:
        """Read an answer; see WireFormat."""
        body = _successful_object(answer)
        if not isinstance(body.get("text"), str):
            raise malformed_response("an answer without text")
        return EngineAnswer(
            text=body["text"].strip(),
            language=request.language,
            usage=parse_chat_usage(body.get("usage")),
            request_id=answer.headers.get("x-request-id"),
            raw=body,
        )


def _successful_object(answer: Answer) -> Mapping[str, Any]:
    if answer.status != OK:
        raise openai_error(answer.status, answer.headers, answer.body)
    return object_of(answer.body)
