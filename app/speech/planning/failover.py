"""Who may be asked for a model: its own engine, then those that the operator lists after it.

An engine has one bundle of key, host and prices. Another bundle of the same service is an engine
of its own, called `dashscope/NAME`; a catalogue file may also name it as a model's own engine.
"""

from collections.abc import Mapping, Sequence

from app.speech.catalogue import Model
from app.speech.engine import Engine


def bundle_name(engine: str, name: str) -> str:
    """Return what an engine's further bundle of this name is called."""
    return f"{engine}/{name}"


def candidates(
    model: Model, engines: Mapping[str, Engine], failover: Sequence[str]
) -> list[Engine]:
    """Return the engines that are switched on, in the order in which they are to be asked."""
    names = [model.engine, *(bundle_name(model.engine, name) for name in failover)]
    return [engines[name] for name in names if name in engines]
