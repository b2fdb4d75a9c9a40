"""Mixed jobs over three request formats with faults; the ledger against the simulator's bill.

This is the short form of `python -m bench.mixed`, which accepts a seed.
"""

from pathlib import Path

import pytest

from tests.support.mixed import MODELS, Trial

pytestmark = pytest.mark.anyio
JOBS, FAULTS, AT_ONCE = 60, 0.2, 8


async def test_the_ledger_equals_the_bill_after_reconciliation(
    database_url: str, at_once: None, tmp_path: Path
) -> None:
    verdict = await Trial(JOBS, FAULTS, 20261121, tmp_path, database_url, AT_ONCE).run()
    assert verdict.violations == []
    assert {job["model"] for job in verdict.records.rows["transcription"]} == set(MODELS)
    # The drawn faults depend on the order of the calls: no kind is certain to be among them.
    assert any(call.fault for call in verdict.simulator.calls)
