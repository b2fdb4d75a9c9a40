"""The work that one short synchronous request causes, in counts that do not depend on load.

The recording is sent as received by one call, which is admitted without waiting (DESIGN section 4:
two commits). A count that grows is a cost that every request pays; lower the limits when it falls.

Covers: app.jobs.submission, app.jobs.execution.job_run, app.jobs.execution.claimed
"""

import asyncio
import concurrent.futures
import shutil
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import app
from app.audio.storage.threads import WorkThreads
from app.db import driver
from tests.support.gateway import Gateway, running, settings_for, speech
from tests.support.simulated_gateway import fast_catalogue
from tests.support.stub_server import answers, qwen3_answer, upstream

pytestmark = pytest.mark.anyio

MAX_COMMITS = 2
MAX_STATEMENTS = 15
MAX_THREAD_HOPS = 4
MAX_TASKS = 4
MAX_MODULES = 99
REQUESTS = 4
APP = f"{Path(app.__file__ or '').parent}/"


@contextmanager
def counting(monkeypatch: pytest.MonkeyPatch, gateway: Gateway) -> Iterator[Counter[str]]:
    """Count commits, statements, thread changes and tasks of the gateway inside the block."""
    counts: Counter[str] = Counter()
    loop = asyncio.get_running_loop()

    def counted(name: str, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return real(*args, **kwargs)

        return call

    db = gateway.services.db
    with monkeypatch.context() as patch:
        patch.setattr(db, "write", counted("commits", db.write))
        patch.setattr(db, "read", counted("reads", db.read))
        patch.setattr(driver, "execute", counted("statements", driver.execute))
        patch.setattr(
            concurrent.futures.ThreadPoolExecutor,
            "submit",
            counted("executor", concurrent.futures.ThreadPoolExecutor.submit),
        )
        patch.setattr(WorkThreads, "run", counted("executor", WorkThreads.run))
        factory = loop.get_task_factory()

        def make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
            name = getattr(coroutine, "__qualname__", str(coroutine))
            if name != "Event.wait":  # of the client, which is in this process
                counts["tasks"] += 1
                counts[f"task {name}"] += 1
            return asyncio.Task(coroutine, loop=loop, **options)

        loop.set_task_factory(make_task)
        try:
            yield counts
        finally:
            loop.set_task_factory(factory)


@contextmanager
def modules_passed() -> Iterator[set[str]]:
    """Collect the modules of `app` that run a function in the block, on any thread begun in it."""
    passed: set[str] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(APP):
            passed.add(frame.f_code.co_filename.removeprefix(APP))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield passed
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@asynccontextmanager
async def short_path(migrated_sqlite: Path, tmp_path: Path) -> AsyncIterator[tuple[Gateway, str]]:
    """Run a gateway that has answered two requests, with a provider that answers at once."""
    shutil.copy(migrated_sqlite, tmp_path / "gateway.db")
    async with upstream(answers(qwen3_answer("hello", 2))) as there:
        settings = settings_for(
            f"sqlite:///{tmp_path / 'gateway.db'}",
            tmp_path / "data",
            speech={"default_model": "", "catalogue": str(fast_catalogue(tmp_path, 6_000_000))},
            dashscope={"api_key": "sk-canary", "base_url": f"{there.url}/api/v1/"},
        )
        async with running(settings, None) as gateway:
            key = await gateway.key()
            await asyncio.sleep(0.05)  # the rate limit has its first step only after an interval
            for n in range(2):  # compilation and caching at the first use
                assert (await gateway.send(speech(2, start=n / 10), key=key)).status_code == 200
            yield gateway, key


async def test_a_short_request_takes_two_commits_and_few_of_everything(
    migrated_sqlite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with short_path(migrated_sqlite, tmp_path) as (gateway, key):
        with counting(monkeypatch, gateway) as counts:
            for n in range(REQUESTS):
                response = await gateway.send(speech(2, start=1 + n / 10), key=key)
                assert response.status_code == 200, response.text
    hops = counts["commits"] + counts["executor"]
    each = {name: count / REQUESTS for name, count in {**counts, "hops": hops}.items()}
    assert each["commits"] == MAX_COMMITS, each
    assert each["statements"] <= MAX_STATEMENTS, each
    assert each["hops"] <= MAX_THREAD_HOPS, each
    assert each["tasks"] <= MAX_TASKS, each


async def test_a_short_request_passes_few_modules(migrated_sqlite: Path, tmp_path: Path) -> None:
    with modules_passed() as passed:
        async with short_path(migrated_sqlite, tmp_path) as (gateway, key):
            passed.clear()
            assert (await gateway.send(speech(2, start=1), key=key)).status_code == 200
            of_request = sorted(passed)
    assert len(of_request) <= MAX_MODULES, of_request
