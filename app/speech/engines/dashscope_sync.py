"""DashScope's synchronous route: one part of a recording is one request, answered whole.

Everything that reads or writes the vendor's JSON is pure and beside this file (`dashscope_*`).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from app.net.client import Client, open_client
from app.net.exchange import Answer, Body, ExchangeError, post
from app.speech.contract import (
    DeltaSink,
    EngineAnswer,
    EngineError,
    EngineRequest,
    EngineUsage,
    ErrorKind,
    Readiness,
    Sound,
)
from app.speech.engines.bundle import Bundle
from app.speech.engines.dashscope_answers import parse_input_audio, parse_qwen3
from app.speech.engines.dashscope_asks import (
    CONTEXT_CUT,
    input_audio_ask,
    is_context_cut,
    qwen3_ask,
)
from app.speech.engines.dashscope_errors import NO_SPEECH, code_in, parse_error
from app.speech.engines.traffic import Traffic
from app.speech.engines.wire import (
    MOST_ANSWER_BYTES,
    Hole,
    base64_size,
    json_around,
    no_answer,
)

ROUTE = "/api/v1/services/aigc/multimodal-generation/generation"
MOST_ENCODED_BYTES = 10 << 20  # of a data: URI
OK = 200


@dataclasses.dataclass(frozen=True, slots=True)
class _Shape:
    ask: Callable[[EngineRequest, Hole], Mapping[str, Any]]
    parse: Callable[[bytes], EngineAnswer]


_SHAPES = {
    "qwen3": _Shape(qwen3_ask, parse_qwen3),
    "input-audio": _Shape(input_audio_ask, parse_input_audio),
}


class DashScopeSync:
    """An Engine. `shapes` tells of every upstream model which of the two shapes it speaks."""

    name = "dashscope"
    remote = True
    takes: Sound = "flac"

    def __init__(
        self,
        bundle: Bundle,
        shapes: Mapping[str, str],
        traffic: Traffic,
        *,
        answer_seconds: float,
    ) -> None:
        self.region = bundle.region
        self._bundle = bundle
        self._shapes = {model: _SHAPES[shape] for model, shape in shapes.items()}
        self._traffic = traffic
        self._answer_seconds = answer_seconds
        self._client: Client | None = None

    async def open(self) -> None:
        """Open the pool; a connection comes with the first call."""
        # The deadline is the call's own: a long part is minutes of silence before its answer.
        self._client = open_client(
            base_url=self._bundle.base_url, silence_seconds=self._answer_seconds
        )

    async def close(self) -> None:
        """Close the pool; calls that still run end with an error."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def readiness(self, model: str) -> Readiness:
        """Tell whether `model` can be called now, as far as its last calls show."""
        if model not in self._shapes:
            return Readiness(ready=False, missing=f"no model {model!r} is known to this engine")
        if self._traffic.state == "open":
            return Readiness(ready=False, missing="resting after too many failures")
        return Readiness(ready=True)

    async def admit(self, model: str, patience: float) -> None:
        """Wait for the account's next step; see Engine."""
        await self._traffic.admit(model, patience)

    async def transcribe(
        self, request: EngineRequest, _on_delta: DeltaSink | None = None
    ) -> EngineAnswer:
        """Make one call; see Engine."""
        try:
            answer = await self._call(request)
        except EngineError as error:
            raise await self._traffic.note_error(request.model, error) from error
        self._traffic.note_answer()
        return answer

    async def _call(self, request: EngineRequest) -> EngineAnswer:
        shape = self._shapes.get(request.model)
        if shape is None or self._client is None:
            raise EngineError(ErrorKind.UNAVAILABLE, "closed, or a model of another engine")
        answer = await self._exchange(self._client, _body(shape, request), request)
        if answer.status == OK:
            return _warned(shape.parse(answer.body), request, shape)
        if code_in(answer.body) in NO_SPEECH:  # failed requests are free
            return EngineAnswer("", usage=EngineUsage(0.0))
        raise parse_error(answer.status, answer.headers, answer.body)

    async def _exchange(self, client: Client, body: Body, request: EngineRequest) -> Answer:
        try:
            return await post(
                client,
                ROUTE,
                body,
                headers=self._bundle.headers(),
                deadline_seconds=min(request.deadline_seconds, self._answer_seconds),
                max_bytes=MOST_ANSWER_BYTES,
            )
        except ExchangeError as error:
            raise no_answer(error) from error


def _body(shape: _Shape, request: EngineRequest) -> Body:
    flac = request.audio.flac
    if flac is None:
        raise EngineError(ErrorKind.INTERNAL, "the part was not encoded")
    if base64_size(len(flac)) > MOST_ENCODED_BYTES:
        raise EngineError(ErrorKind.REFUSED, f"the part has {len(flac)} bytes as FLAC")
    hole = Hole()
    return json_around(shape.ask(request, hole), hole, flac, "audio/flac")


def _warned(answer: EngineAnswer, request: EngineRequest, shape: _Shape) -> EngineAnswer:
    """Leave out word times that nobody asked for, and say what was left out of the context."""
    if not request.words and answer.segments:
        bare = tuple(segment.model_copy(update={"words": ()}) for segment in answer.segments)
        answer = dataclasses.replace(answer, segments=bare)
    if shape.ask is input_audio_ask and is_context_cut(request.context):
        answer = dataclasses.replace(answer, warnings=(*answer.warnings, CONTEXT_CUT))
    return answer
