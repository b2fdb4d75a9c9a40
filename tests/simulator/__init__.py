"""The provider simulator: DashScope on this machine, written from the protocol notes alone.

It never imports `app`: it measures, rounds, limits and bills by itself, so that a wrong reading of
the protocol in one of the two is found.
"""

from tests.simulator.bill import Line
from tests.simulator.calls import Call
from tests.simulator.faults import FAULTS, TASK_FAULTS
from tests.simulator.limits import Limits
from tests.simulator.sentences import speech_from
from tests.simulator.server import ProviderSimulator
from tests.simulator.speech import Ask, Counting, Script, Speech
from tests.simulator.tasks import Delays

__all__ = [
    "FAULTS",
    "TASK_FAULTS",
    "Ask",
    "Call",
    "Counting",
    "Delays",
    "Limits",
    "Line",
    "ProviderSimulator",
    "Script",
    "Speech",
    "speech_from",
]
