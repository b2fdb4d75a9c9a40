"""The short form of `bench.sse`: streams through a real gateway, every word of each in order.

Covers: app.jobs.streaming.hub
"""

from pathlib import Path

import pytest

from bench.sse import Trial

pytestmark = [pytest.mark.anyio, pytest.mark.alone]


async def test_streams_through_a_gateway_are_complete(tmp_path: Path) -> None:
    trial = Trial(tmp_path, streams=[1, 8], words=12, gap=0.05)
    await trial.run()
    assert trial.violations == []
    assert [(run.way, len(run.first), len(run.later)) for run in trial.runs] == [
        *((way, 1, 11) for way in ("direct", "relay", "gateway")),
        *((way, 8, 88) for way in ("direct", "relay", "gateway")),
    ]
    assert all(took > 0 for run in trial.runs for _, took in run.later)
    for run in trial.runs:
        assert (run.cpu_per_event > 0) is (run.way != "direct")
        assert run.steady_events <= len(run.first) + len(run.later)
