"""The gateway with a clock at each step of a request, for `bench.overhead`.

python -m bench.stops FILE    (settings from the environment, like `asr-gateway serve`)

For each POST it writes a line of JSON: the seconds of each step since the one before it. The
figures are correct for one caller at a time only. The gateway's code is not changed.
"""

import asyncio
import functools
import importlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from app.kit.log import configure
from app.lifespan import preflight
from app.main import create_app
from app.serve import bind, run_server
from app.settings import Settings

# Where a stop ends: when a function is left, or when the first one of the next stop is entered.
LEFT = {
    "receive": "app.api.v1.transcriptions:receive",
    "store": "app.audio.storage.local_store:_LocalUpload.finish",
    "probe": "app.jobs.submission:look",
    "turn": "app.speech.engines.http.admission:CallAdmission._wait_for_rate",
    "engine call": "app.speech.engines.http.engine:RemoteEngine.transcribe",
}
ENTERED = {
    "key": "app.api.v1.transcriptions:receive",
    "decode, find speech": "app.jobs.upstream.caller:Asker.ask",
    "encode": "app.speech.engines.http.admission:CallAdmission._take_slot",
}
WORKS = {
    "create_job": "create the job (commit 1)",
    "open_call": "open the call",
    "commit_part": "settle (commit 2)",
}
DATABASES = ("app.db.sqlite:SqliteDatabase.write", "app.db.postgres:PostgresDatabase.write")
RENDER = "find, render"
ORDER = (
    *("key", "receive", "store", "probe", "submit (TX 1)", "decode, find speech", "encode", "turn"),
    *("write the call down", "engine call", "settle (TX 2)", RENDER),
)

Async = Callable[..., Awaitable[Any]]


class Marks:
    """Adds up the time of each step of the current request."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._at = 0.0

    def begin(self) -> None:
        self.spent, self._at = {}, time.perf_counter()

    def reach(self, stop: str) -> None:
        now = time.perf_counter()
        self.spent[stop] = self.spent.get(stop, 0.0) + now - self._at
        self._at = now


MARKS = Marks()


class Timed:
    """The outermost middleware: measures a POST from its headers to the last byte of its answer."""

    def __init__(self, app: ASGIApp, file: Path) -> None:
        self._app = app
        self._file = file.open("a")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, and write a line for each POST."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        MARKS.begin()
        await self._app(scope, receive, send)
        MARKS.reach(RENDER)
        self._file.write(json.dumps(MARKS.spent) + "\n")
        self._file.flush()


def install() -> None:
    """Install the clocks. A function that no longer exists is reported and has no time."""
    for stop, place in ENTERED.items():
        _wrap(place, lambda inner, stop=stop: _entering(inner, stop))
    for stop, place in LEFT.items():
        _wrap(place, lambda inner, stop=stop: _leaving(inner, stop))
    for place in DATABASES:
        _wrap(place, _writing)


def _wrap(place: str, wrap: Callable[[Async], Async]) -> None:
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    try:
        owner = functools.reduce(getattr, owners, importlib.import_module(module))
        setattr(owner, name, wrap(getattr(owner, name)))
    except (ImportError, AttributeError):
        print(f"bench.stops: {place} is no longer there", file=sys.stderr)


def _entering(inner: Async, stop: str) -> Async:
    @functools.wraps(inner)
    async def timed(*args: Any, **kwargs: Any) -> Any:
        MARKS.reach(stop)
        return await inner(*args, **kwargs)

    return timed


def _leaving(inner: Async, stop: str) -> Async:
    @functools.wraps(inner)
    async def timed(*args: Any, **kwargs: Any) -> Any:
        result = await inner(*args, **kwargs)
        MARKS.reach(stop)
        return result

    return timed


def _writing(inner: Async) -> Async:
    @functools.wraps(inner)
    async def timed(db: Any, work: Any, *args: Any, **kwargs: Any) -> Any:
        result = await inner(db, work, *args, **kwargs)
        if stop := WORKS.get(getattr(work, "__name__", "")):
            MARKS.reach(stop)
        return result

    return timed


def main(file: str) -> int:
    settings = Settings()
    configure(level=settings.log.level, line_format=settings.log.format)
    install()
    with bind(settings.server) as bound:
        asyncio.run(preflight(settings))
        app = create_app(settings)
        app.add_middleware(Timed, file=Path(file))
        return run_server(app, settings.server, bound)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
