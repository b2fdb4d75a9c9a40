"""Checks of the default model by `asr-gateway doctor`: catalogue, engine, files."""

import asyncio
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

from app.cli.doctor.check import CheckResult, ok, problem, warning
from app.cli.doctor.machine import existing
from app.net.connectivity import ConnectivityError, probe
from app.settings import LocalEngineSettings, Settings
from app.speech.catalogue import CatalogueModel, load_catalogue
from app.speech.engines.local.weights.files import cache_folder, is_present

LOOK_SECONDS = 5.0


async def check_models(settings: Settings) -> AsyncIterator[CheckResult]:
    """Check the catalogue and the default model; nothing is fetched."""
    name = settings.default_model
    try:
        model = load_catalogue(settings.speech.catalogue).models.get(name)
    except (OSError, ValueError) as error:
        words = f"{settings.speech.catalogue} cannot be read ({type(error).__name__})"
        yield problem("catalogue", words, "Correct GATEWAY_SPEECH__CATALOGUE, or the file.")
        return
    if model is None:
        remedy = "Set GATEWAY_SPEECH__DEFAULT_MODEL to one that `asr-gateway models list` shows."
        yield problem("model", f"{name} is unknown", remedy)
    elif model.engine == "local":
        engine = _engine(settings)
        yield engine
        if engine.is_well:
            yield await _files(settings, model)
    elif model.engine == "openai":
        yield await _server(settings, model)


def _engine(settings: Settings) -> CheckResult:
    if not settings.local.enabled:
        remedy = "Set GATEWAY_LOCAL__ENABLED=true, or another GATEWAY_SPEECH__DEFAULT_MODEL."
        return problem("local engine", "switched off, but the default model needs it", remedy)
    if find_spec("faster_whisper") is None:
        remedy = (
            "Install the extra: pip install 'asr-gateway[local]'; or set DASHSCOPE_API_KEY, whose "
            "models need none."
        )
        return problem("local engine", "not installed", remedy)
    return ok("local engine", "installed")


async def _files(settings: Settings, model: CatalogueModel) -> CheckResult:
    name, local = "model files", settings.local
    if await asyncio.to_thread(_are_here, model.upstream_model, local):
        return ok(name, f"{model.name} is here")
    remedy = (
        f"Run: asr-gateway models pull {model.upstream_model}, where that is possible; or copy the "
        "files here and set GATEWAY_LOCAL__MODEL_DIR; or widen GATEWAY_LOCAL__SOURCES."
    )
    if obstacle := await _no_way(settings):
        return problem(name, f"{model.name} is not here, and {obstacle}", remedy)
    return warning(name, f"{model.name} is not here yet: it is fetched on start", remedy)


def _are_here(upstream_model: str, local: LocalEngineSettings) -> bool:
    return Path(upstream_model).is_dir() or is_present(upstream_model, local)


async def _no_way(settings: Settings) -> str:
    """Return why the files cannot be fetched; nothing where some source may have them."""
    local, cache = settings.local, existing(cache_folder(settings.local))
    if not cache.is_dir():
        return f"{cache} is no folder"
    if not local.sources:
        return "no source is set"
    reason = []
    if "wheels" in local.sources:
        if find_spec("pip") is not None:
            return ""  # the index is pip's own affair; asking it would be the download
        reason.append("pip, for the wheels, is not installed")
    if "hub" in local.sources:
        try:
            await probe(local.hub_url, "/", headers={}, deadline_seconds=LOOK_SECONDS)
        except ConnectivityError as error:
            reason.append(f"the hub {error.problem}")
        else:
            return ""
    return " and ".join(reason)


async def _server(settings: Settings, model: CatalogueModel) -> CheckResult:
    name, url = "openai server", settings.openai.base_url
    if not url:
        remedy = "Set GATEWAY_OPENAI__BASE_URL to a server that speaks OpenAI's wire."
        return problem(name, f"not set, but {model.name} needs it", remedy)
    try:
        await probe(url, "/", headers={}, deadline_seconds=LOOK_SECONDS)
    except ConnectivityError as error:
        return problem(name, f"it {error.problem}", "Start it, or check GATEWAY_OPENAI__BASE_URL.")
    return ok(name, "answers")
