"""`asr-gateway doctor`: what is wrong with this installation, and what to do about it."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from app.access.keys import any_key
from app.audio.children import Decoders
from app.audio.local_store import LocalStore
from app.audio.probe import probe
from app.cli import doctor_dashscope
from app.cli.demo import SAMPLE
from app.cli.finding import Finding, well, wrong
from app.db.migrate import is_current, opened
from app.errors import DatabaseAway, GatewayError
from app.settings import Settings
from app.speech.catalogue import load_catalogue
from app.speech.weights.files import is_here


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Look for what would keep the gateway from working; exit code 1 if anything would."""
    findings = asyncio.run(_examine(Settings()))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(f"{finding.mark:5} {finding.name}: {finding.found}")
            if not finding.is_well:
                print(f"      {finding.remedy}")
    raise typer.Exit(0 if all(one.is_well or one.is_warning for one in findings) else 1)


async def _examine(settings: Settings) -> list[Finding]:
    return [
        await _database(settings),
        await _store(settings),
        await _decoder(settings),
        *_models(settings),
        *[finding async for finding in doctor_dashscope.examine(settings)],
    ]


async def _database(settings: Settings) -> Finding:
    try:
        async with opened(settings.database_url, as_it_is=True) as db:
            if not await is_current(db):
                return well("database", "not migrated yet: `serve` does it")
            open_to_all = not await db.read(any_key)
    except (DatabaseAway, sa.exc.SQLAlchemyError, OSError, ValueError, ImportError) as error:
        remedy = "Check GATEWAY_DATABASE__URL; PostgreSQL needs the extra [postgres]."
        return wrong("database", type(error).__name__, remedy)
    keys = "no key yet: only loopback is served" if open_to_all else "keys exist"
    return well("database", f"migrated; {keys}")


async def _store(settings: Settings) -> Finding:
    folder = settings.data_dir / "audio"
    try:
        await LocalStore(folder, settings.audio).check()
    except (GatewayError, OSError) as error:
        remedy = f"Make room, or make {folder} writable for this user."
        return wrong("store", str(error), remedy)
    free = shutil.disk_usage(folder).free
    return well("store", f"writable, {free >> 30} GiB free")


async def _decoder(settings: Settings) -> Finding:
    try:
        found = await probe(
            SAMPLE,
            decoders=Decoders(settings.audio),
            max_seconds=settings.audio.max_seconds,
            deadline_seconds=settings.audio.probe_seconds,
        )
    except (GatewayError, OSError) as error:
        remedy = "Reinstall imageio-ffmpeg, or set GATEWAY_AUDIO__FFMPEG to one that knows fd:."
        return wrong("decoder", str(error), remedy)
    return well("decoder", f"reads {found.format}")


def _models(settings: Settings) -> Iterator[Finding]:
    name = settings.default_model
    model = load_catalogue(settings.speech.catalogue).models.get(name)
    if model is None:
        remedy = "Set GATEWAY_SPEECH__DEFAULT_MODEL to one that `asr-gateway models list` shows."
        yield wrong("model", f"{name} is unknown", remedy)
    elif model.engine == "local":
        installed = find_spec("faster_whisper") is not None
        yield Finding(
            "local engine",
            installed,
            "installed" if installed else "not installed",
            "Install the extra: pip install 'asr-gateway[local]'.",
        )
        here = Path(model.upstream_model).is_dir() or is_here(model.upstream_model, settings.local)
        yield Finding(
            "model files",
            here,
            f"{name} {'is here' if here else 'is not here yet'}",
            f"They are fetched on start; or now: asr-gateway models pull {name}",
        )
