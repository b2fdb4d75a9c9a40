"""The real gateway with a key and its base address at a twin: nothing between them is made up."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.speech.catalogue import PACKAGED
from tests.support.gateway import Gateway, running, settings_for
from tests.twin import Twin

CALLS_A_MINUTE = 6_000  # of the account; at the real 100 a trial would be minutes of waiting


@asynccontextmanager
async def before(
    twin: Twin,
    folder: Path,
    *,
    jobs: dict[str, Any] | None = None,
    database: str = "",
    models: str = "",
    **dashscope: Any,
) -> AsyncIterator[Gateway]:
    """Run a gateway before `twin`, with a database of its own in `folder` unless one is named.

    `models` are more of them, in the catalogue's own form.
    """
    settings = settings_for(
        database or f"sqlite:///{folder / 'gateway.db'}",
        folder / "data",
        speech={"default_model": "", "catalogue": str(_hastened(folder, models))},
        dashscope={"api_key": twin.key, "base_url": f"{twin.url}/api/v1", **dashscope},
        jobs=jobs or {},
    )
    async with running(settings, None) as gateway:
        yield gateway


def bundles(twin: Twin, **named: str) -> dict[str, Any]:
    """Return settings of further bundles, each in a region of the twin's, all failed over to."""
    others = {
        name: {"api_key": twin.key_of(region), "region": region, "base_url": twin.urls[region]}
        for name, region in named.items()
    }
    return {"others": others, "failover": tuple(named)}


def _hastened(folder: Path, models: str) -> Path:
    """Write the shipped catalogue with nothing but its pace changed, and more models after it."""
    file = folder / "catalogue.toml"
    pace = f"calls_per_minute = {CALLS_A_MINUTE}"
    file.write_text(re.sub(r"calls_per_minute = \d+", pace, PACKAGED.read_text()) + models)
    return file
