"""The short form of bench/rate.py: calls at the rate that the account allows, and never above it.

Covers: app.db.rate_limit, app.net.rate_limiter, app.speech.engines.dashscope.sync,
app.speech.engines.http.admission, app.speech.engines.http.engine,
app.speech.engines.http.provider_account
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from app.db.migrate import open_database
from app.db.rate_limit import RowSlots
from app.net.rate_limiter import MemorySlots, RateLimiter, SlotStore
from app.speech.engine import EncodedAudio, EngineRequest
from app.speech.engines.dashscope.sync import dashscope_engine
from app.speech.engines.http.admission import CallAdmission
from app.speech.engines.http.engine import RemoteEngine
from app.speech.engines.http.provider_account import ProviderAccount
from tests.simulator import Limits, ProviderSimulator, Script, counting
from tests.support.stalls import stalls

pytestmark = [pytest.mark.anyio, pytest.mark.alone]
MODEL = "qwen3-asr-flash"
CALLS_A_MINUTE = 20
# Minutes of 6 s, with steps of 0.3 s; longer ones on a machine that stood still meanwhile, for
# then calls arrive late and close together, independent of the limiter.
SCALES = (10, 5, 2)
MOST_STALL = 0.6  # of the simulator's seconds
LIMITS = Limits(rpm=CALLS_A_MINUTE, per_second=True, burst=2)
REQUESTS = 27
FOR_EVER = 1e6


@asynccontextmanager
async def gateway(
    simulator: ProviderSimulator, steps: SlotStore, scale: float
) -> AsyncIterator[RemoteEngine]:
    """Yield the components with which a process of the gateway calls the simulator."""
    rates = {MODEL: CALLS_A_MINUTE * scale}
    engine = dashscope_engine(
        ProviderAccount("cn-beijing", simulator.url, simulator.key),
        {MODEL: "qwen3"},
        CallAdmission("dashscope/cn-beijing", RateLimiter(steps), rates),
        timeout_seconds=9,
    )
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


@dataclass
class Tried:
    """One trial: statuses, seconds since the first call, simulator seconds of stalls."""

    statuses: list[int | None]
    moments: list[float]
    stall: float


async def tried(processes: int, scale: float, shared_url: str) -> Tried:
    # A WAV: the simulator needs no decoder for its length.
    audio = EncodedAudio(counting.encode([1]), "wav", 1000)
    part = EngineRequest(audio=audio, model=MODEL, deadline_seconds=9)

    async def call(engine: RemoteEngine) -> None:
        async with engine.admit(MODEL, FOR_EVER):
            await engine.transcribe(part)

    async with AsyncExitStack() as stack:
        simulator = ProviderSimulator(words=Script("a"), limits=LIMITS, clock_scale=scale)
        await stack.enter_async_context(simulator)
        engines = []
        for _ in range(processes):
            steps: SlotStore = MemorySlots()
            if processes > 1:
                steps = RowSlots(await stack.enter_async_context(open_database(shared_url)))
            engines.append(await stack.enter_async_context(gateway(simulator, steps, scale)))
        late = await stack.enter_async_context(stalls())
        callers = (call(engines[at % processes]) for at in range(REQUESTS))
        await asyncio.gather(*callers, return_exceptions=True)
        moments = [call.at - simulator.calls[0].at for call in simulator.calls]
        return Tried(
            [call.status for call in simulator.calls],
            moments,
            max((one.seconds for one in late), default=0) * scale,
        )


@pytest.mark.parametrize("processes", [1, 2])
async def test_every_slot_is_used_and_no_call_is_too_early(processes: int, shared_url: str) -> None:
    for scale in SCALES:
        found = await tried(processes, scale, shared_url)
        if found.stall < MOST_STALL:
            break
    assert found.statuses == [200] * REQUESTS
    assert sum(moment < 60 for moment in found.moments) >= 0.95 * CALLS_A_MINUTE
    assert max(found.moments) > 60  # so that the limit of a minute could have been broken
