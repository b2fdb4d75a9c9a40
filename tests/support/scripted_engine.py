"""An engine that answers from a script and keeps its own bill, in a file that survives kill -9.

It stands for a remote engine: a call may be billed although its answer is lost. Its bill is written
at a random moment of the call, so that a kill can happen before or after it.
"""

import asyncio
import json
import math
import os
import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from app.speech.engine import (
    CallSlot,
    DeltaSink,
    EngineAnswer,
    EngineError,
    EngineReadiness,
    EngineRequest,
    EngineUsage,
    Throughput,
)

CATALOGUE = Path(__file__).with_name("scripted_engine.toml")


@dataclass
class ScriptedEngine:
    """The scripted engine. `errors` are raised by the next calls, in order; None lets a call pass.

    `gate`, if set, holds answers back. `late_error` is raised instead of the answer when the call
    was billed and the gate is open. `pieces` are sent as deltas, `pace_seconds` apart, before the
    gate.
    """

    delay_seconds: float = 0.0
    bill: Path | None = None
    text: str = "heard"
    errors: list[EngineError | None] = field(default_factory=list)
    late_error: EngineError | None = None
    gate: asyncio.Event | None = None
    calls: list[EngineRequest] = field(default_factory=list)
    reports_usage: bool = True
    pieces: Sequence[str] = ()
    pace_seconds: float = 0.0

    name = "scripted"
    region = "test"
    remote = True
    accepts = "pcm"
    max_concurrent_calls = 16

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def readiness(self, _model: str) -> EngineReadiness:
        return EngineReadiness(ready=True)

    def throughput(self, _model: str, _audio_seconds: float) -> Throughput:
        return Throughput()

    def admit(
        self, _model: str, _max_wait_seconds: float, _priority: int = 0
    ) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def try_admit(self, _model: str) -> CallSlot | None:
        return CallSlot()

    async def transcribe(
        self, request: EngineRequest, on_delta: DeltaSink | None = None
    ) -> EngineAnswer:
        self.calls.append(request)
        seconds = math.ceil(request.audio.millis / 1000)
        billed_after = random.random() * self.delay_seconds
        await asyncio.sleep(billed_after)
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        self._charge(seconds)
        await asyncio.sleep(self.delay_seconds - billed_after)
        for piece in self.pieces if on_delta else ():
            on_delta(piece)
            await asyncio.sleep(self.pace_seconds)
        if self.gate is not None:
            await self.gate.wait()
        if self.late_error is not None:
            raise self.late_error
        return EngineAnswer(
            text=self.text,
            language="en",
            usage=EngineUsage(seconds, raw={"seconds": seconds})
            if self.reports_usage
            else EngineUsage(),
            request_id=f"req-{len(self.calls)}",
            raw={"text": self.text},
        )

    def _charge(self, seconds: int) -> None:
        if self.bill is not None:
            line = json.dumps({"seconds": seconds}) + "\n"
            descriptor = os.open(self.bill, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(descriptor, line.encode())  # one write: whole lines however many processes
            os.close(descriptor)


def billed_seconds(bill: Path) -> int:
    """Return the sum of the billed seconds."""
    if not bill.exists():
        return 0
    return sum(json.loads(line)["seconds"] for line in bill.read_text().splitlines())


def only(engine: ScriptedEngine):  # noqa: ANN201
    """Return a function for `create_app` that returns only this engine."""

    def make(*_parts: object) -> list[ScriptedEngine]:
        return [engine]

    return make
