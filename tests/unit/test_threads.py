"""Child processes are started while other threads compute, and the process does not block."""

import os
import subprocess
import sys

import pytest

MATRIX = 800  # large enough for OpenBLAS to share the work out
COUNT = f"""
import app.audio.splitting.vad, os
import numpy as np
a = np.ones(({MATRIX}, {MATRIX}), dtype=np.float32)
before = len(os.listdir("/proc/self/task"))
a @ a
print(before, len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux does")
def test_numpy_has_no_threads_that_a_fork_would_have_to_join() -> None:
    environment = {name: value for name, value in os.environ.items() if "NUM_THREADS" not in name}
    ran = subprocess.run(
        [sys.executable, "-c", COUNT], env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["1", "1"]
