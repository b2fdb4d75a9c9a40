"""The short form of `bench.sse`: streams through a real gateway, every word of each in order."""

from pathlib import Path

import pytest

from bench.sse import Trial

pytestmark = [pytest.mark.anyio, pytest.mark.alone]


async def test_streams_through_a_gateway_are_whole(tmp_path: Path) -> None:
    trial = Trial(tmp_path, streams=8, words=12, gap=0.05)
    await trial.run()
    assert trial.violations == []
    assert [(run.way, len(run.first), len(run.later)) for run in trial.runs] == [
        ("direct", 1, 11),
        ("gateway", 1, 11),
        ("direct", 8, 88),
        ("gateway", 8, 88),
    ]
    assert all(took > 0 for run in trial.runs for _, took in run.later)
