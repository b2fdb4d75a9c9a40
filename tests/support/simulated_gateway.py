"""The real gateway with its DashScope base URL pointing to a provider simulator."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.speech.catalogue import PACKAGED
from tests.simulator import ProviderSimulator
from tests.support.gateway import Gateway, running, settings_for

CALLS_A_MINUTE = 6_000  # of the account; at the real 100 a trial would be minutes of waiting


@asynccontextmanager
async def simulated_gateway(
    simulator: ProviderSimulator,
    folder: Path,
    *,
    database: str = "",
    models: str = "",
    jobs: dict[str, Any] | None = None,
    answer_seconds: float | None = None,
    server: dict[str, Any] | None = None,
    fetch: dict[str, Any] | None = None,
    calls_a_minute: int = CALLS_A_MINUTE,
    **dashscope: Any,
) -> AsyncIterator[Gateway]:
    """Run a gateway with `simulator` as its provider; by default on SQLite in `folder`.

    If the simulator includes a vLLM, the gateway uses it as well. `models` are further models, in
    the catalogue's format.
    """
    patience = {} if answer_seconds is None else {"timeout_seconds": answer_seconds}
    settings = settings_for(
        database or f"sqlite:///{folder / 'gateway.db'}",
        folder / "data",
        speech={
            "default_model": "",
            "catalogue": str(fast_catalogue(folder, calls_a_minute, models)),
        },
        dashscope={"api_key": simulator.key, "base_url": f"{simulator.url}/api/v1", **patience}
        | dashscope,
        openai={"base_url": simulator.urls.get("vllm", ""), **patience},
        jobs=jobs or {},
        server=server or {},
        fetch=fetch or {},
    )
    async with running(settings, None) as gateway:
        yield gateway


def more_accounts(simulator: ProviderSimulator, **named: str) -> dict[str, Any]:
    """Return settings of further provider accounts, one per simulator region, used for failover."""
    others = {
        name: {
            "api_key": simulator.key_of(region),
            "region": region,
            "base_url": simulator.urls[region],
        }
        for name, region in named.items()
    }
    return {"accounts": others, "failover": tuple(named)}


def fast_catalogue(folder: Path, calls_a_minute: int = CALLS_A_MINUTE, models: str = "") -> Path:
    """Write the packaged catalogue with higher rate limits, and further models after it."""
    file = folder / "catalogue.toml"
    pace = f"calls_per_minute = {calls_a_minute}"
    file.write_text(re.sub(r"calls_per_minute = \d+", pace, PACKAGED.read_text()) + models)
    return file
