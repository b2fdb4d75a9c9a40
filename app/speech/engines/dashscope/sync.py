"""DashScope's synchronous route: one request for each part, answered as a whole or as a stream.

The vendor's JSON is written and read by the pure modules beside this one.
"""

from collections.abc import Mapping

from app.net.http.exchange import OK, Answer, Body
from app.speech.engine import (
    DeltaSink,
    EngineAnswer,
    EngineError,
    EngineRequest,
    EngineUsage,
    ErrorKind,
)
from app.speech.engines.dashscope.errors import NO_SPEECH, code_in, dashscope_error
from app.speech.engines.dashscope.omni import OmniFormat, OmniModel
from app.speech.engines.dashscope.sync_requests import input_audio_request, qwen3_request
from app.speech.engines.dashscope.sync_responses import parse_input_audio, parse_qwen3
from app.speech.engines.dashscope.sync_stream import STREAM_HEADERS, InputAudioStream, Qwen3Stream
from app.speech.engines.http.admission import CallAdmission
from app.speech.engines.http.engine import AccountTasks, RemoteEngine
from app.speech.engines.http.json_body import (
    base64_size,
    encoded_audio,
    json_with_audio,
)
from app.speech.engines.http.provider_account import ProviderAccount
from app.speech.engines.http.wire_format import StreamedFormat, StreamParser, WireFormat

NAME = "dashscope"
ROUTE = "/api/v1/services/aigc/multimodal-generation/generation"
MAX_ENCODED_BYTES = 10 << 20  # of a data: URI


def dashscope_engine(
    account: ProviderAccount,
    wires: Mapping[str, str],
    admission: CallAdmission,
    *,
    timeout_seconds: float,
    name: str = NAME,
    tasks: AccountTasks | None = None,
    omni_models: Mapping[str, OmniModel] | None = None,
) -> RemoteEngine:
    """Return the engine of one account; see `failover` for the names of several ones.

    `shapes` are the request forms (`qwen3`, `input-audio`) of the upstream models. `omni_models`
    are those that are called as a chat.
    """
    formats: dict[str, WireFormat] = {model: _FORMATS[wire] for model, wire in wires.items()}
    formats |= {model: OmniFormat(omni) for model, omni in (omni_models or {}).items()}
    return RemoteEngine(
        name, account, formats, admission, timeout_seconds=timeout_seconds, tasks=tasks
    )


class Qwen3Format(StreamedFormat):
    """The qwen3 form of the route."""

    route = ROUTE
    stream_headers = STREAM_HEADERS

    def body(self, request: EngineRequest, *, streamed: bool) -> Body:
        """Return the body of a request; see WireFormat."""
        _check_part_size(request)
        return json_with_audio(qwen3_request(request, streamed=streamed), encoded_audio(request))

    def parse(self, _request: EngineRequest, answer: Answer) -> EngineAnswer:
        """Read an answer that is no stream; see WireFormat."""
        return parse_qwen3(answer.body) if answer.status == OK else _parse_failure(answer)

    def stream_parser(self, _request: EngineRequest, on_delta: DeltaSink) -> StreamParser:
        """Return a parser for one stream; see StreamedFormat."""
        return Qwen3Stream(on_delta)


class InputAudioFormat(StreamedFormat):
    """The input-audio form of the route."""

    route = ROUTE
    stream_headers = STREAM_HEADERS

    def body(self, request: EngineRequest, *, streamed: bool) -> Body:  # noqa: ARG002 - the headers ask for the stream
        """Return the body of a request; see WireFormat."""
        _check_part_size(request)
        return json_with_audio(input_audio_request(request), encoded_audio(request))

    def parse(self, request: EngineRequest, answer: Answer) -> EngineAnswer:
        """Read an answer that is no stream; see WireFormat."""
        if answer.status == OK:
            return parse_input_audio(answer.body, request)
        return _parse_failure(answer)

    def stream_parser(self, request: EngineRequest, on_delta: DeltaSink) -> StreamParser:
        """Return a parser for one stream; see StreamedFormat."""
        return InputAudioStream(request, on_delta)


_FORMATS = {"qwen3": Qwen3Format(), "input-audio": InputAudioFormat()}


def _check_part_size(request: EngineRequest) -> None:
    audio = encoded_audio(request)
    if base64_size(len(audio.data)) > MAX_ENCODED_BYTES:
        reason = f"the part has {len(audio.data)} bytes as {audio.format}"
        raise EngineError(ErrorKind.REJECTED, reason)


def _parse_failure(answer: Answer) -> EngineAnswer:
    """Return an empty answer for an error that means no speech, which is free. Raises others."""
    if code_in(answer.body) in NO_SPEECH:
        return EngineAnswer("", usage=EngineUsage(0.0))
    raise dashscope_error(answer.status, answer.headers, answer.body)
