"""One call from its first byte to its last: key, limits, faults, checks, words, bill, answer."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import uuid4

from starlette.requests import ClientDisconnect, Request
from starlette.types import Send

from tests.twin import models
from tests.twin.answers import Answer, Pace, deliver, reset
from tests.twin.audio import Audio, measured
from tests.twin.bill import Bill, Line, Usage
from tests.twin.clock import Clock
from tests.twin.faults import Fault, Faults
from tests.twin.limits import Gate
from tests.twin.models import Model
from tests.twin.orders import Order
from tests.twin.refusals import Refusal, bad_key
from tests.twin.regions import Region
from tests.twin.sources import audio_bytes
from tests.twin.words import Said, Words


@dataclass
class Call:
    """What the twin remembers of a request; tests look here."""

    region: str
    path: str
    at: float
    headers: Mapping[str, str]
    key: str = ""
    request_id: str = field(default_factory=lambda: str(uuid4()))
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    model: str = ""
    place: str = ""
    order: Order | None = None
    seconds: float | None = None
    fault: str | None = None
    status: int | None = None
    code: str | None = None
    line: Line | None = None
    arrived: bool = False
    body: Mapping[str, Any] = field(default_factory=dict)


class Wire(Protocol):
    """How one endpoint reads, checks, answers and refuses."""

    async def read(self, request: Request) -> Mapping[str, Any]: ...
    def order(self, body: Mapping[str, Any], model: Model, call: Call) -> Order: ...
    def check(self, audio: Audio, order: Order) -> None: ...
    def usage(self, order: Order, audio: Audio, said: Said, bill: Bill) -> Usage: ...
    def answer(self, order: Order, said: Said, usage: Usage, call: Call) -> Answer: ...
    def refused(self, refusal: Refusal, call: Call) -> Answer: ...


@dataclass
class Service:
    """The state all calls share, and the order in which a call is dealt with."""

    clock: Clock
    gate: Gate
    faults: Faults
    bill: Bill
    words: Words
    remote: Mapping[str, bytes]
    revived: frozenset[str]
    latency_seconds: float
    slow_seconds: float
    pace: Pace
    calls: list[Call] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    async def serve(self, request: Request, send: Send, wire: Wire, region: Region) -> None:
        """Deal with a call; what the twin itself cannot do is kept, for the test to fail of."""
        try:
            await self._serve(request, send, wire, region)
        except ClientDisconnect:
            return
        except Exception as failure:
            self.failures.append(failure)
            raise

    async def _serve(self, request: Request, send: Send, wire: Wire, region: Region) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(region.name, request.url.path, self.clock.now(), headers)
        self.calls.append(call)
        fault = None
        try:
            body = await self._admitted(request, wire, region, call)
            fault = self._fault(call)
            if fault and fault.how in {"reset", "hang"}:
                await self._never_answers(fault, request)
                return
            answer = await self._worked(wire, body, region, call, fault)
            if fault and fault.how == "event" and not answer.is_stream:
                fault = call.fault = None
        except Refusal as refusal:
            call.code = refusal.code
            answer = wire.refused(refusal, call)
        call.status = answer.status
        how = fault.how if fault and answer.status == 200 else "whole"
        call.arrived = await deliver(answer, how, request.scope, send, self.pace)
        if call.line is not None:
            call.line.answered = call.arrived

    async def _admitted(
        self, request: Request, wire: Wire, region: Region, call: Call
    ) -> Mapping[str, Any]:
        """Read the request of a caller who is known and not too fast."""
        await request.body()
        call.key = call.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if region.keys is not None and call.key not in region.keys:
            raise bad_key()
        body = await wire.read(request)
        call.body, call.model = body, str(body.get("model") or "")
        if region.is_sold:
            self.gate.admit(call.key, call.model, self._model(call).requests_per_minute)
        return body

    def _fault(self, call: Call) -> Fault | None:
        fault = self.faults.draw(call.region)
        if fault:
            call.fault = fault.name
            if fault.refusal:
                raise fault.refusal()
        return fault

    async def _never_answers(self, fault: Fault, request: Request) -> None:
        if fault.how == "reset":
            await reset(request.scope)
            return
        while (await request.receive())["type"] != "http.disconnect":
            pass

    async def _worked(
        self,
        wire: Wire,
        body: Mapping[str, Any],
        region: Region,
        call: Call,
        fault: Fault | None,
    ) -> Answer:
        """Check, listen, charge and answer."""
        order = call.order = wire.order(body, self._model(call), call)
        call.place = order.place
        audio = await measured(await self._audio(order, call), raw_rate=order.raw_rate)
        call.seconds = audio.seconds
        wire.check(audio, order)
        said = await self.words.of(audio, order)
        await asyncio.sleep(self.latency_seconds)
        usage = wire.usage(order, audio, said, self.bill)
        answer = wire.answer(order, said, usage, call)
        fails = fault and not fault.is_billed and (answer.is_stream or fault.how != "event")
        if region.is_sold and not fails:
            call.line = self.bill.charge(
                call.request_id, call.started_at, call.region, call.model, usage
            )
        await asyncio.sleep(self.slow_seconds if fault and fault.is_slow else 0)
        return answer

    async def _audio(self, order: Order, call: Call) -> bytes:
        if order.upload is not None:
            return order.upload
        resolves = call.headers.get("x-dashscope-ossresourceresolve") == "enable"
        return await audio_bytes(order.place, order.model, remote=self.remote, may_resolve=resolves)

    def _model(self, call: Call) -> Model:
        return models.find(call.model, call.region, self.revived)
