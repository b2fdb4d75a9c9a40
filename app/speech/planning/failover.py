"""The engines that can call a model: its own, then those of the operator's further accounts.

An engine has one account: key, host and prices. Another account of the same service is an engine
of its own, named `dashscope/NAME`; a catalogue file may also give it as a model's own engine.
"""

from collections.abc import Mapping, Sequence

from app.speech.catalogue import CatalogueModel
from app.speech.engine import Engine


def account_engine_name(engine: str, name: str) -> str:
    """Return the name of the engine of a further account."""
    return f"{engine}/{name}"


def engines_for(
    model: CatalogueModel, engines: Mapping[str, Engine], failover: Sequence[str]
) -> list[Engine]:
    """Return the open engines that can call a model, in the order of preference."""
    names = [model.engine, *(account_engine_name(model.engine, name) for name in failover)]
    return [engines[name] for name in names if name in engines]
