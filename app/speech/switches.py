"""Models that are offered only where an operator says so."""

from app.settings import DashScopeSettings
from app.speech.catalogue import Model


def is_switched_on(model: Model, settings: DashScopeSettings) -> bool:
    """Tell whether the operator lets this model be asked for."""
    return not model.opt_in or bool(getattr(settings, model.opt_in))


def how_to_switch_on(model: Model) -> str:
    """Return what keeps a switched off model from being asked for, in words for its operator."""
    switch = f"GATEWAY_DASHSCOPE__{model.opt_in.upper()}=true"
    return f"it is offered only where {switch} is set"
