"""Synchronous calls: checks, transcription, charge, answer."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from starlette.requests import Request

from tests.simulator.answers import Answer
from tests.simulator.audio import Audio, measured
from tests.simulator.bill import Bill, Usage
from tests.simulator.calls import Call, Service
from tests.simulator.errors import ApiError
from tests.simulator.faults import Fault, Place
from tests.simulator.models import Model
from tests.simulator.orders import Order
from tests.simulator.regions import Region
from tests.simulator.speech import Speech


class Wire(Protocol):
    """The request format of one endpoint: reads, checks, answers and errors."""

    async def read(self, request: Request) -> Mapping[str, Any]: ...
    def order(self, body: Mapping[str, Any], model: Model, call: Call) -> Order: ...
    def check(self, audio: Audio, order: Order) -> None: ...
    def usage(self, order: Order, audio: Audio, said: Speech, bill: Bill) -> Usage: ...
    def answer(self, order: Order, said: Speech, usage: Usage, call: Call) -> Answer: ...
    def refused(self, refusal: ApiError, call: Call) -> Answer: ...


class SyncCalls:
    """The endpoint for synchronous calls."""

    faults: tuple[Place, ...] = ("call",)
    is_open = False

    def __init__(self, service: Service, wire: Wire) -> None:
        self._service = service
        self._wire = wire

    async def read(self, request: Request) -> Mapping[str, Any]:
        return await self._wire.read(request)

    def admit(self, call: Call, region: Region) -> None:
        usual = self._service.model(call).requests_per_minute
        self._service.gate.admit(call.key, call.model, usual)

    async def work(self, call: Call, region: Region, fault: Fault | None) -> Answer:
        service, wire = self._service, self._wire
        order = call.order = wire.order(call.body, service.model(call), call)
        call.place = order.place
        audio = await measured(await self._audio(order, call), raw_rate=order.raw_rate)
        call.seconds = audio.seconds
        wire.check(audio, order)
        said = await service.words.of(audio, order)
        await asyncio.sleep(service.latency_seconds)
        usage = wire.usage(order, audio, said, service.bill)
        answer = wire.answer(order, said, usage, call)
        fails = fault and not fault.is_billed and (answer.is_stream or fault.how != "event")
        if region.is_sold and not fails:
            call.line = service.bill.charge(
                call.request_id, call.started_at, call.region, call.model, usage
            )
        return answer

    async def _audio(self, order: Order, call: Call) -> bytes:
        if order.upload is not None:
            return order.upload
        return await self._service.audio(order.place, order.model, call)

    def refused(self, refusal: ApiError, call: Call) -> Answer:
        return self._wire.refused(refusal, call)
