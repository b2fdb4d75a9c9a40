"""Memory settings of a server process, each in a process of its own.

Covers: app.kit.memory
"""

import json
import subprocess
import sys

from app.kit.memory import COLLECTOR_THRESHOLDS

TUNED = """
import gc, json
import app.main
from app.kit.memory import tune_collector, tune_malloc
tune_malloc()
tune_collector()
print(json.dumps([gc.get_threshold(), gc.get_freeze_count(), gc.isenabled()]))
"""


def test_the_collector_leaves_loaded_modules_alone_and_still_runs() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", TUNED], capture_output=True, text=True, check=True
    )
    thresholds, frozen, is_enabled = json.loads(ended.stdout)
    assert tuple(thresholds) == COLLECTOR_THRESHOLDS
    assert frozen > 50_000
    assert is_enabled
