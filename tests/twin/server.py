"""The twin as a whole: real sockets, one for each region, around one service."""

import asyncio
import secrets
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tests.twin.answers import TRANSPORT, Pace
from tests.twin.bill import Bill, Rounding
from tests.twin.calls import Call, Service, Wire
from tests.twin.clock import Clock
from tests.twin.compatible import Compatible
from tests.twin.faults import Faults
from tests.twin.input_audio import Nesting
from tests.twin.limits import Gate, Limits
from tests.twin.native import Native
from tests.twin.regions import Region, regions_of
from tests.twin.vllm import Chat, Transcriptions, about
from tests.twin.words import Counting, Words

GENERATION = "/api/v1/services/aigc/multimodal-generation/generation"
CHAT = "/compatible-mode/v1/chat/completions"
STOP_SECONDS = 1.0


class Twin:
    """A DashScope on loopback.

    async with Twin(words=Script("hello")) as twin:
        ...  # twin.url + "/api/v1", twin.key

    `seed` draws the rounding of the bill and the faults; it is printed, and drawn if not given.
    `clock_scale` makes the twin's minutes shorter; waits named `_seconds` are real ones.
    `remote` is its internet: what lies behind addresses other than loopback's, and `oss://`.
    """

    def __init__(
        self,
        *,
        regions: Sequence[str] = ("cn-beijing",),
        keys: Mapping[str, Sequence[str]] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int | None = None,
        words: Words | None = None,
        rounding: Rounding | None = None,
        limits: Limits | None = None,
        clock_scale: float = 1.0,
        faults: Mapping[str, float] | None = None,
        latency_seconds: float = 0.0,
        slow_seconds: float = 2.0,
        pace: Pace | None = None,
        remote: Mapping[str, bytes] | None = None,
        revived: Sequence[str] = (),
        nesting: Nesting = "flat",
        stream_errors_as_events: bool = True,
    ) -> None:
        self.seed = secrets.randbelow(2**32) if seed is None else seed
        self.regions = regions_of(regions, keys or {})
        self.clock = Clock(clock_scale)
        self.bill = Bill(self.seed, rounding)
        self.faults = Faults(self.seed, faults)
        self.service = Service(
            clock=self.clock,
            gate=Gate(limits or Limits(), self.clock),
            faults=self.faults,
            bill=self.bill,
            words=words or Counting(),
            remote=remote or {},
            revived=frozenset(revived),
            latency_seconds=latency_seconds,
            slow_seconds=slow_seconds,
            pace=pace or Pace(),
        )
        self.urls: dict[str, str] = {}
        self._wires = Native(nesting), Compatible(as_events=stream_errors_as_events)
        self._bind = host, port
        self._listening: dict[str, tuple[asyncio.Server, ServerState]] = {}

    @property
    def url(self) -> str:
        """The first region's address, to which the paths of the protocol are appended."""
        return self.urls[self.regions[0].name]

    @property
    def key(self) -> str:
        """A key of the first region."""
        return self.key_of(self.regions[0].name)

    @property
    def calls(self) -> list[Call]:
        """Every request so far, refused ones too."""
        return self.service.calls

    def key_of(self, region: str) -> str:
        keys = next(one.keys for one in self.regions if one.name == region)
        return min(keys or {"none"})

    def bill_csv(self) -> str:
        """Return the vendor's file of all charges; `bill.Charge` says what the columns are."""
        return self.bill.csv()

    async def shut(self, region: str) -> None:
        """Close a region's door for good: connections break, new ones are refused."""
        server, state = self._listening.pop(region)
        server.close()
        for connection in list(state.connections):
            cast("HttpToolsProtocol", connection).transport.abort()
        if state.tasks:
            _, late = await asyncio.wait(state.tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()

    async def __aenter__(self) -> Self:
        sys.stdout.write(f"twin: seed {self.seed}, rounding {self.bill.rounding}\n")
        host, port = self._bind
        for at, region in enumerate(self.regions):
            await self._listen(region, host, port + at if port else 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for region in list(self._listening):
            await self.shut(region)
        await asyncio.sleep(0)
        if error is None and self.service.failures:
            raise ExceptionGroup("the twin itself failed", self.service.failures)

    async def _listen(self, region: Region, host: str, port: int) -> None:
        config = uvicorn.Config(
            self._app(region),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
        )
        config.load()
        state = ServerState()
        state.default_headers = config.encoded_headers
        server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(config, state, {}), host, port, backlog=1024
        )
        self._listening[region.name] = server, state
        bound: socket.socket = server.sockets[0]
        self.urls[region.name] = f"http://{host}:{bound.getsockname()[1]}"

    def _app(self, region: Region) -> Starlette:
        if region.is_vllm:
            chat = self._post("/v1/chat/completions", Chat(), region)
            transcriptions = self._post("/v1/audio/transcriptions", Transcriptions(), region)
            return Starlette(routes=[chat, transcriptions, *about()])
        native, compatible = self._wires
        return Starlette(
            routes=[self._post(GENERATION, native, region), self._post(CHAT, compatible, region)]
        )

    def _post(self, path: str, wire: Wire, region: Region) -> Route:
        class Endpoint:
            def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
                self._called = Request(scope, receive), send

            def __await__(self) -> Any:
                return service.serve(*self._called, wire, region).__await__()

        service = self.service
        return Route(path, Endpoint, methods=["POST"])


class _Connection(HttpToolsProtocol):
    """uvicorn's connection, whose requests can get at the socket: faults are done to it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        inner = cast("Callable[[Scope, Receive, Send], Any]", self.app)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await inner({**scope, TRANSPORT: transport}, receive, send)

        self.app = cast("ASGIApp", app)
