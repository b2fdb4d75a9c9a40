"""Availability of models by the operator's settings, and the setting that is missing."""

from app.settings import DashScopeSettings
from app.speech.catalogue import CatalogueModel

_REQUIREMENTS = {
    "dashscope": "it needs a Model Studio key in GATEWAY_DASHSCOPE__API_KEY",
    "openai": "it needs a server of your own in GATEWAY_OPENAI__BASE_URL",
    "local": "the local engine is off (GATEWAY_LOCAL__ENABLED) or not installed",
}


def is_switched_on(model: CatalogueModel, settings: DashScopeSettings) -> bool:
    """Tell whether the settings allow the model. A model with `opt_in` needs a setting."""
    return not model.opt_in or bool(getattr(settings, model.opt_in))


def how_to_switch_on(model: CatalogueModel) -> str:
    """Return, for the operator, the reason for which the model is not available."""
    if not model.opt_in:
        return _REQUIREMENTS.get(model.engine, f"the engine {model.engine} is not configured")
    return f"it needs GATEWAY_DASHSCOPE__{model.opt_in.upper()}=true"
