"""Outbound HTTP."""

import sys

# Where rich is installed, httpx imports its command line and with it pygments: 7 MB, never used.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
