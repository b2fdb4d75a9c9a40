"""Models that are offered only where an operator says so."""

from app.settings import DashScopeSettings
from app.speech.catalogue import Model

SWITCHES = {
    "dashscope": "it needs a key of Model Studio, in GATEWAY_DASHSCOPE__API_KEY",
    "openai": "it needs a server that runs it, in GATEWAY_OPENAI__BASE_URL",
    "local": "its engine is switched off (GATEWAY_LOCAL__ENABLED), or not installed",
}
"""By engine, what makes it one that is there."""


def is_switched_on(model: Model, settings: DashScopeSettings) -> bool:
    """Tell whether the operator lets this model be asked for."""
    return not model.opt_in or bool(getattr(settings, model.opt_in))


def how_to_switch_on(model: Model) -> str:
    """Return what keeps a switched off model from being asked for, in words for its operator."""
    if not model.opt_in:
        return SWITCHES.get(model.engine, f"the engine {model.engine} is switched off")
    switch = f"GATEWAY_DASHSCOPE__{model.opt_in.upper()}=true"
    return f"it is offered only where {switch} is set"
