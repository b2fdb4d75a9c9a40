"""The complete simulator: one real socket per region, with one service."""

import asyncio
import secrets
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from email.utils import format_datetime
from types import TracebackType
from typing import Any, Self, cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tests.simulator.answers import TRANSPORT, Pace
from tests.simulator.bill import Bill, Rounding
from tests.simulator.calls import Call, Endpoint, Service
from tests.simulator.clock import Clock
from tests.simulator.compatible import Compatible
from tests.simulator.faults import Faults
from tests.simulator.input_audio import Nesting
from tests.simulator.limits import Gate, Limits
from tests.simulator.native import Native
from tests.simulator.regions import STORE, Region, regions_of
from tests.simulator.speech import Counting, SpeechSource
from tests.simulator.store import BUCKET, Store
from tests.simulator.sync_calls import SyncCalls, Wire
from tests.simulator.task_queries import Cancels, Lists, Queries
from tests.simulator.task_runner import TaskRunner
from tests.simulator.task_submission import TaskSubmission
from tests.simulator.tasks import Delays, Task, Tasks
from tests.simulator.uploads import Policies, Results, Uploads
from tests.simulator.vllm import Chat, Transcriptions, about

GENERATION = "/api/v1/services/aigc/multimodal-generation/generation"
CHAT = "/compatible-mode/v1/chat/completions"
TRANSCRIPTION = "/api/v1/services/audio/asr/transcription"
TASKS = "/api/v1/tasks"
POLICY = "/api/v1/uploads"
STOP_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 75  # with uvicorn's five, a busy machine breaks calls without a fault


class ProviderSimulator:
    """DashScope on loopback.

    async with ProviderSimulator(words=Script("hello")) as simulator:     ...  # simulator.url +
    "/api/v1", simulator.key

    `seed` determines the rounding of the bill and the faults; it is printed, and random if not
    given. `clock_scale` shortens the simulator's minutes; delays named `_seconds` are real seconds.
    `remote` are its other hosts: the content of non-loopback URLs and of `oss://`. `store_url` is
    its object store, for uploads and results; it belongs to no region and stays open when a region
    is shut. `delays` are the durations of tasks.
    """

    def __init__(
        self,
        *,
        regions: Sequence[str] = ("cn-beijing",),
        keys: Mapping[str, Sequence[str]] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int | None = None,
        words: SpeechSource | None = None,
        rounding: Rounding | None = None,
        limits: Limits | None = None,
        clock_scale: float = 1.0,
        faults: Mapping[str, float] | None = None,
        delays: Delays | None = None,
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
        self.store = Store(self.clock)
        self.service = Service(
            clock=self.clock,
            gate=Gate(limits or Limits(), self.clock),
            faults=self.faults,
            bill=self.bill,
            words=words or Counting(),
            remote=remote or {},
            store=self.store,
            revived=frozenset(revived),
            latency_seconds=latency_seconds,
            slow_seconds=slow_seconds,
            pace=pace or Pace(),
        )
        self.urls: dict[str, str] = {}
        self._tasks = Tasks(self.clock, self.seed, delays or Delays())
        self._work = TaskRunner(self.service, self._tasks)
        self._wires = Native(nesting), Compatible(as_events=stream_errors_as_events)
        self._bind = host, port
        self._listening: dict[str, tuple[asyncio.Server, ServerState]] = {}

    @property
    def url(self) -> str:
        """The base URL of the first region."""
        return self.urls[self.regions[0].name]

    @property
    def key(self) -> str:
        """A key of the first region."""
        return self.key_of(self.regions[0].name)

    @property
    def calls(self) -> list[Call]:
        """All requests so far, including rejected ones."""
        return self.service.calls

    @property
    def tasks(self) -> list[Task]:
        """All tasks so far, in the order of their submission."""
        return list(self._tasks)

    @property
    def store_url(self) -> str:
        """The base URL of the object store."""
        return self.store.url

    async def tasks_ended(self) -> None:
        """Wait until all tasks so far have ended and are charged."""
        await self._work.ended()

    def key_of(self, region: str) -> str:
        keys = next(one.keys for one in self.regions if one.name == region)
        return min(keys or {"none"})

    def bill_csv(self) -> str:
        """Return the provider's file of all charges. `bill.Charge` defines the columns."""
        return self.bill.csv()

    async def shut(self, region: str) -> None:
        """Close a region permanently: its connections break, new ones are refused."""
        server, state = self._listening.pop(region)
        server.close()
        for connection in list(state.connections):
            cast("HttpToolsProtocol", connection).transport.abort()
        if state.tasks:
            _, late = await asyncio.wait(state.tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()

    async def __aenter__(self) -> Self:
        sys.stdout.write(f"simulator: seed {self.seed}, rounding {self.bill.rounding}\n")
        host, port = self._bind
        for at, region in enumerate(self.regions):
            url = await self._listen(region, self._app(region), host, port + at if port else 0)
            self.urls[region.name] = url
        at = port + len(self.regions) if port else 0
        self.store.url = await self._listen(STORE, self._store(), host, at)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._work.close()
        for region in list(self._listening):
            await self.shut(region)
        await asyncio.sleep(0)
        if error is None and self.service.failures:
            raise ExceptionGroup("the simulator itself failed", self.service.failures)

    async def _listen(self, region: Region, app: Starlette, host: str, port: int) -> str:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        config.load()
        state = ServerState()
        state.default_headers = config.encoded_headers
        server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(config, state, {}), host, port, backlog=1024
        )
        self._listening[region.name] = server, state
        bound: socket.socket = server.sockets[0]
        return f"http://{host}:{bound.getsockname()[1]}"

    def _app(self, region: Region) -> Starlette:
        if region.is_vllm:
            chat = self._route("/v1/chat/completions", self._heard(Chat()), region)
            path = "/v1/audio/transcriptions"
            transcriptions = self._route(path, self._heard(Transcriptions()), region)
            return Starlette(routes=[chat, transcriptions, *about()])
        native, compatible = self._wires
        desks = self.service, self._tasks, self._work
        lists = Lists(*desks)
        return Starlette(
            routes=[
                self._route(GENERATION, self._heard(native), region),
                self._route(CHAT, self._heard(compatible), region),
                self._route(TRANSCRIPTION, TaskSubmission(*desks), region),
                self._route(TASKS, lists, region, "GET"),
                self._route(f"{TASKS}/", lists, region, "GET"),
                self._route(f"{TASKS}/{{task_id}}", Queries(*desks), region, "GET"),
                self._route(f"{TASKS}/{{task_id}}/cancel", Cancels(*desks), region),
                self._route(POLICY, Policies(self.service), region, "GET"),
            ]
        )

    def _store(self) -> Starlette:
        return Starlette(
            routes=[
                self._route(BUCKET, Uploads(self.service), STORE),
                self._route("/{path:path}", Results(self.service), STORE, "GET"),
            ]
        )

    def _heard(self, wire: Wire) -> Endpoint:
        return SyncCalls(self.service, wire)

    def _route(self, path: str, endpoint: Endpoint, region: Region, method: str = "POST") -> Route:
        class Handler:
            def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
                self._called = Request(scope, receive), _dated(send, service.clock)

            def __await__(self) -> Any:
                return service.serve(*self._called, endpoint, region).__await__()

        service = self.service
        return Route(path, Handler, methods=[method])


def _dated(send: Send, clock: Clock) -> Send:
    """Add the Date header to every answer, as the real service does."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            date = format_datetime(clock.moment(), usegmt=True).encode()
            message = {**message, "headers": [*message.get("headers", ()), (b"date", date)]}
        await send(message)

    return sent


class _Connection(HttpToolsProtocol):
    """uvicorn's connection, which gives requests access to the socket for faults."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        inner = cast("Callable[[Scope, Receive, Send], Any]", self.app)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await inner({**scope, TRANSPORT: transport}, receive, send)

        self.app = cast("ASGIApp", app)
