"""Fetching the audio of a job by its URL.

Covers: app.jobs.execution.fetch_source
"""

from types import SimpleNamespace
from typing import Any

import pytest

from app.jobs.execution.fetch_source import SourceFetcher
from app.jobs.store.runs import Deferred
from app.kit.clock import utc_now

pytestmark = pytest.mark.anyio


async def test_waiting_for_a_fetch_slot_pauses_the_retry_timeout() -> None:
    nothing: Any = SimpleNamespace()
    source_fetcher = SourceFetcher(
        nothing,
        nothing,
        nothing,
        planner=nothing,
        decoders=nothing,
        settings=nothing,
        at_once=0,
        clock=utc_now,
    )
    with pytest.raises(Deferred) as deferred:
        await source_fetcher.fetch(nothing, "https://far.example/a.wav")
    assert (deferred.value.clock, deferred.value.reason) == ("paused", "fetch_slot")
