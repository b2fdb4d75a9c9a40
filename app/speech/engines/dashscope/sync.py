"""DashScope's synchronous route: a part of a recording is one request, answered whole or streamed.

Everything that reads or writes the vendor's JSON is pure and beside this file (`dashscope_*`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from app.net.http.exchange import Answer, Body
from app.speech.engine import (
    DeltaSink,
    EngineAnswer,
    EngineError,
    EngineRequest,
    EngineUsage,
    ErrorKind,
)
from app.speech.engines.dashscope.errors import NO_SPEECH, code_in, parse_error
from app.speech.engines.dashscope.omni import Omni, omni_dialect
from app.speech.engines.dashscope.sync_requests import (
    CONTEXT_CUT,
    input_audio_ask,
    is_context_cut,
    qwen3_ask,
    qwen3_streamed_ask,
)
from app.speech.engines.dashscope.sync_responses import parse_input_audio, parse_qwen3
from app.speech.engines.dashscope.sync_stream import HEADERS, InputAudioStream, Qwen3Stream
from app.speech.engines.http.account import ProviderAccount
from app.speech.engines.http.admission import CallAdmission
from app.speech.engines.http.engine import (
    RemoteEngine,
    StreamFormat,
    StreamParser,
    TasksOfBundle,
    WireFormat,
)
from app.speech.engines.http.json_body import (
    AudioPlaceholder,
    base64_size,
    file_of,
    json_with_audio,
)

NAME = "dashscope"
ROUTE = "/api/v1/services/aigc/multimodal-generation/generation"
MOST_ENCODED_BYTES = 10 << 20  # of a data: URI
OK = 200


@dataclass(frozen=True, slots=True)
class _Shape:
    ask: Callable[[EngineRequest, AudioPlaceholder], Mapping[str, Any]]
    parse: Callable[[bytes], EngineAnswer]
    gather: Callable[[DeltaSink], StreamParser]


_SHAPES = {
    "qwen3": _Shape(qwen3_ask, parse_qwen3, Qwen3Stream),
    "input-audio": _Shape(input_audio_ask, parse_input_audio, InputAudioStream),
}


def dashscope_sync(
    bundle: ProviderAccount,
    shapes: Mapping[str, str],
    admission: CallAdmission,
    *,
    answer_seconds: float,
    name: str = NAME,
    tasks: TasksOfBundle | None = None,
    omnis: Mapping[str, Omni] | None = None,
) -> RemoteEngine:
    """Return the engine; `shapes` tells of every upstream model which of the two it speaks.

    `omnis` are the upstream models that are asked as a chat.

    There is one for each bundle; see `failover` for their names.
    """
    dialects = {model: _dialect(_SHAPES[shape]) for model, shape in shapes.items()}
    dialects |= {model: omni_dialect(omni) for model, omni in (omnis or {}).items()}
    return RemoteEngine(
        name, bundle, dialects, admission, answer_seconds=answer_seconds, tasks=tasks
    )


def _dialect(shape: _Shape) -> WireFormat:
    streaming = StreamFormat(partial(_write_streamed, shape), partial(_gather, shape), HEADERS)
    return WireFormat(ROUTE, partial(_write, shape), partial(_read, shape), streaming)


class _Warned:
    """A gathering whose answer gets the warnings that a whole answer gets."""

    def __init__(self, shape: _Shape, request: EngineRequest, tell: DeltaSink) -> None:
        self._gathering = shape.gather(tell)
        self._shape, self._request = shape, request
        self.take = self._gathering.take

    @property
    def is_whole(self) -> bool:
        return self._gathering.is_whole

    def answer(self, head: Answer) -> EngineAnswer:
        return _warned(self._gathering.answer(head), self._request, self._shape)


def _gather(shape: _Shape, request: EngineRequest, tell: DeltaSink) -> StreamParser:
    return _Warned(shape, request, tell)


def _write_streamed(shape: _Shape, request: EngineRequest) -> Body:
    """Ask for what is new in each frame, where that can be asked for."""
    ask = qwen3_streamed_ask if shape.ask is qwen3_ask else shape.ask
    return _write(replace(shape, ask=ask), request)


def _write(shape: _Shape, request: EngineRequest) -> Body:
    file = file_of(request)
    if base64_size(len(file.data)) > MOST_ENCODED_BYTES:
        raise EngineError(ErrorKind.REJECTED, f"the part has {len(file.data)} bytes as {file.form}")
    hole = AudioPlaceholder()
    return json_with_audio(shape.ask(request, hole), hole, file)


def _read(shape: _Shape, request: EngineRequest, answer: Answer) -> EngineAnswer:
    if answer.status == OK:
        return _warned(shape.parse(answer.body), request, shape)
    if code_in(answer.body) in NO_SPEECH:  # failed requests are free
        return EngineAnswer("", usage=EngineUsage(0.0))
    raise parse_error(answer.status, answer.headers, answer.body)


def _warned(answer: EngineAnswer, request: EngineRequest, shape: _Shape) -> EngineAnswer:
    """Leave out word times that nobody asked for, and say what was left out of the context."""
    if not request.words and answer.segments:
        bare = tuple(segment.model_copy(update={"words": ()}) for segment in answer.segments)
        answer = replace(answer, segments=bare)
    if shape.ask is input_audio_ask and is_context_cut(request.context):
        answer = replace(answer, warnings=(*answer.warnings, CONTEXT_CUT))
    return answer
