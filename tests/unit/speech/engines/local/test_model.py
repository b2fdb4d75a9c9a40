"""A model that is being loaded reports its state, and is loaded again after a failure.

Covers: app.speech.engines.local.model
"""

import asyncio
from pathlib import Path

import pytest

from app.speech.engine import EngineError, ErrorKind
from app.speech.engines.local.model import LoadingModel
from app.speech.engines.local.weights.files import ModelMissingError
from app.speech.engines.local.weights.sources import Progress

pytestmark = pytest.mark.anyio


class Fetching:
    """A download that a test controls: it reports half of its progress, then waits for the gate."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.calls = 0
        self.gate = asyncio.Event()

    async def __call__(self, on_progress: Progress) -> Path:
        self.calls += 1
        on_progress(43, 100)
        await self.gate.wait()
        if self.calls <= self.failures:
            raise ModelMissingError("hub: no connection; wheels: pip is not installed")
        return Path()


def coming(fetch: Fetching, *, retry: float = 60.0) -> LoadingModel[str]:
    return LoadingModel("base", fetch=fetch, load=lambda _folder: "loaded", retry_seconds=retry)


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_readiness_reports_the_progress_of_loading() -> None:
    fetch = Fetching()
    model = coming(fetch)
    assert model.readiness.unmet.startswith("model not loaded yet")
    model.start()
    assert model.readiness.unmet == "model loading"
    await asyncio.sleep(0)
    assert model.readiness.unmet == "model downloading 43 %"
    fetch.gate.set()
    assert await model.loaded(soon(5)) == "loaded"
    assert (model.readiness.ready, model.readiness.unmet) == (True, "")
    await model.close()


async def test_a_call_that_reaches_its_deadline_reports_the_progress_of_loading() -> None:
    model = coming(Fetching())
    with pytest.raises(EngineError) as caught:
        await model.loaded(soon(0.05))
    assert caught.value.kind is ErrorKind.UNAVAILABLE
    assert caught.value.retryable
    assert "43 %" in caught.value.log
    await model.close()


async def test_a_failed_fetch_fails_the_waiting_calls_and_is_tried_again() -> None:
    fetch = Fetching(failures=1)
    model = coming(fetch, retry=0.05)
    fetch.gate.set()
    with pytest.raises(EngineError, match="pip is not installed") as caught:
        await model.loaded(soon(5))
    assert caught.value.retry_after == 0.05
    assert model.readiness.unmet == "hub: no connection; wheels: pip is not installed"
    async with asyncio.timeout(5):
        while not model.readiness.ready:
            await asyncio.sleep(0.01)
    assert fetch.calls == 2
    await model.close()


async def test_many_calls_start_one_fetch() -> None:
    fetch = Fetching()
    model = coming(fetch)
    fetch.gate.set()
    assert await asyncio.gather(*(model.loaded(soon(5)) for _ in range(9))) == ["loaded"] * 9
    assert fetch.calls == 1
    await model.close()


async def test_closing_fails_the_waiting_calls() -> None:
    model = coming(Fetching())
    waiting = asyncio.create_task(model.loaded(soon(60)))
    await asyncio.sleep(0)
    await model.close()
    with pytest.raises(EngineError, match="closed"):
        await waiting
