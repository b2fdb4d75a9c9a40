"""The handling of one request: key, limits, faults, work, answer."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import uuid4

from starlette.requests import ClientDisconnect, Request
from starlette.types import Send

from tests.simulator import models
from tests.simulator.answers import Answer, Pace, deliver, reset
from tests.simulator.bill import Bill, Line
from tests.simulator.clock import Clock
from tests.simulator.errors import ApiError, bad_key
from tests.simulator.faults import Fault, Faults, Place
from tests.simulator.limits import Gate
from tests.simulator.models import Model
from tests.simulator.orders import Order
from tests.simulator.regions import Region
from tests.simulator.sources import audio_bytes
from tests.simulator.speech import SpeechSource
from tests.simulator.store import Store


@dataclass
class Call:
    """The record of a request, for tests."""

    region: str
    path: str
    at: float
    headers: Mapping[str, str]
    method: str = "POST"
    key: str = ""
    request_id: str = field(default_factory=lambda: str(uuid4()))
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    model: str = ""
    place: str = ""
    task_id: str = ""
    order: Order | None = None
    seconds: float | None = None
    fault: str | None = None
    status: int | None = None
    code: str | None = None
    line: Line | None = None
    arrived: bool = False
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def resolves(self) -> bool:
        """Whether the caller requests that `oss://` addresses are resolved."""
        return self.headers.get("x-dashscope-ossresourceresolve") == "enable"


class Endpoint(Protocol):
    """An endpoint for one kind of request.

    `faults`: the kinds of faults that apply to it; the first one drawn is used. `is_open`: no
    key is required.
    """

    faults: tuple[Place, ...]
    is_open: bool

    async def read(self, request: Request) -> Mapping[str, Any]: ...
    def admit(self, call: Call, region: Region) -> None: ...
    async def work(self, call: Call, region: Region, fault: Fault | None) -> Answer: ...
    def refused(self, refusal: ApiError, call: Call) -> Answer: ...


@dataclass
class Service:
    """The state that all requests share, and the order of the steps of a request."""

    clock: Clock
    gate: Gate
    faults: Faults
    bill: Bill
    words: SpeechSource
    remote: Mapping[str, bytes]
    store: Store
    revived: frozenset[str]
    latency_seconds: float
    slow_seconds: float
    pace: Pace
    calls: list[Call] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    async def serve(self, request: Request, send: Send, endpoint: Endpoint, region: Region) -> None:
        """Handle a request. An error of the simulator itself is kept in `failures` for the test."""
        try:
            await self._serve(request, send, endpoint, region)
        except ClientDisconnect:
            return
        except Exception as failure:
            self.failures.append(failure)
            raise

    def model(self, call: Call) -> Model:
        return models.find(call.model, call.region, self.revived)

    async def audio(self, place: str, model: Model, call: Call) -> bytes:
        """Return the recording at the address in a call."""
        return await audio_bytes(
            place,
            model,
            remote=self.remote,
            stored=lambda address: self.store.upload_at(address, call.key, call.model),
            may_resolve=call.resolves,
        )

    async def _serve(
        self, request: Request, send: Send, endpoint: Endpoint, region: Region
    ) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = request.url.path
        call = Call(region.name, path, self.clock.now(), headers, request.method)
        self.calls.append(call)
        fault = None
        try:
            await self._admit(request, endpoint, region, call)
            fault = self._fault(endpoint, call)
            if fault and fault.how in {"reset", "hang"}:
                await self._never_answers(fault, request)
                return
            answer = await endpoint.work(call, region, fault)
            await asyncio.sleep(self.slow_seconds if fault and fault.is_slow else 0)
            if fault and fault.how in {"event", "twice"} and not answer.is_stream:
                fault = call.fault = None
        except ApiError as refusal:
            call.code = refusal.code
            answer = endpoint.refused(refusal, call)
        call.status = answer.status
        how = fault.how if fault and answer.status == 200 else "whole"
        call.arrived = await deliver(answer, how, request.scope, send, self.pace)
        if call.line is not None:
            call.line.answered = call.arrived

    async def _admit(
        self, request: Request, endpoint: Endpoint, region: Region, call: Call
    ) -> None:
        """Read a request. Raises ApiError for an unknown key or an exceeded limit."""
        await request.body()
        call.key = call.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not endpoint.is_open and region.keys is not None and call.key not in region.keys:
            raise bad_key()
        call.body = await endpoint.read(request)
        call.model = str(call.body.get("model") or "")
        if region.is_sold:
            endpoint.admit(call, region)

    def _fault(self, endpoint: Endpoint, call: Call) -> Fault | None:
        drawn = (self.faults.draw(call.region, place) for place in endpoint.faults)
        fault = next((one for one in drawn if one), None)
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
