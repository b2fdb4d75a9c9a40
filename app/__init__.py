"""asr-gateway: a self-hosted REST transcription gateway."""

import os

__version__ = "0.1.0"

# Before numpy is loaded, which ships OpenBLAS. Its fork handler joins the threads of that while
# uvloop forks a child with the GIL held: as soon as one of them sleeps in a matmul, all stand
# still for good. Seen with the local engine at work while a decoder was started; what is multiplied
# here is small.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
