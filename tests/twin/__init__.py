"""The twin: a DashScope that runs on this machine, written from the protocol notes alone.

It never imports `app`: it measures, rounds, limits and bills by itself, so that one misreading of
the protocol is not made twice.
"""

from tests.twin.bill import Line
from tests.twin.calls import Call
from tests.twin.faults import FAULTS, TASK_FAULTS
from tests.twin.limits import Limits
from tests.twin.sentences import said_from
from tests.twin.server import Twin
from tests.twin.tasks import Delays
from tests.twin.words import Ask, Counting, Said, Script

__all__ = [
    "FAULTS",
    "TASK_FAULTS",
    "Ask",
    "Call",
    "Counting",
    "Delays",
    "Limits",
    "Line",
    "Said",
    "Script",
    "Twin",
    "said_from",
]
