"""One process that has parts ready and sends them as fast as the account's rate limit allows."""

import asyncio
import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from app.db.migrate import open_database
from app.db.rate_limit import RowSlots
from app.kit.log import log
from app.net.rate_limiter import MemorySlots, RateLimiter, SlotStore
from app.speech.catalogue import PACKAGED
from app.speech.engine import EncodedAudio, EngineError, EngineRequest
from app.speech.engines.dashscope.sync import dashscope_engine
from app.speech.engines.http.admission import CallAdmission
from app.speech.engines.http.engine import RemoteEngine
from app.speech.engines.http.provider_account import ProviderAccount
from tests.simulator import counting
from tests.support.gateway import Gateway, running, settings_for
from tests.support.stalls import stalls

MODEL = "qwen3-asr-flash"
TIMEOUT_SECONDS = 900.0
ANSWER_SECONDS = 60.0
CALLERS = 32  # with a part ready at any time: the gateway's number of concurrent jobs
JOB_SECONDS = 900.0


@dataclass
class Sent:
    """The settings of a sender. With a `folder` it runs jobs of a gateway with its data there."""

    url: str
    key: str
    calls_per_minute: float
    requests: int
    database_url: str = ""
    folder: str = ""


async def send(told: Sent) -> int:
    """Prepare, wait for a line on stdin, send everything; print failures and stalls."""
    log.threshold = logging.CRITICAL
    async with stalls() as late:
        failed = await (_jobs(told) if told.folder else _calls(told))
    print(json.dumps([failed, late]))
    return 0


async def _go() -> None:
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


async def _calls(told: Sent) -> int:
    async with AsyncExitStack() as stack:
        steps: SlotStore = MemorySlots()
        if told.database_url:
            steps = RowSlots(await stack.enter_async_context(open_database(told.database_url)))
        rates = {MODEL: told.calls_per_minute}
        engine = dashscope_engine(
            ProviderAccount("cn-beijing", told.url, told.key),
            {MODEL: "qwen3"},
            CallAdmission("dashscope/cn-beijing", RateLimiter(steps), rates),
            timeout_seconds=ANSWER_SECONDS,
        )
        await engine.open()
        stack.push_async_callback(engine.close)
        await _go()
        return await _all_sent(engine, told.requests)


async def _all_sent(engine: RemoteEngine, requests: int) -> int:
    # A WAV where FLAC would be: the simulator knows its length without starting a decoder.
    audio = EncodedAudio(counting.encode([1]), "wav", 1000)
    request = EngineRequest(audio=audio, model=MODEL, deadline_seconds=ANSWER_SECONDS)
    left, failed = iter(range(requests)), 0

    async def caller() -> None:
        nonlocal failed
        for _ in left:
            try:
                async with engine.admit(MODEL, TIMEOUT_SECONDS):
                    await engine.transcribe(request)
            except EngineError:
                failed += 1

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return failed


async def _jobs(told: Sent) -> int:
    folder = Path(told.folder)
    catalogue = folder / "catalogue.toml"
    pace = f"calls_per_minute = {told.calls_per_minute:.0f}"
    catalogue.write_text(re.sub(r"calls_per_minute = \d+", pace, PACKAGED.read_text()))
    settings = settings_for(
        told.database_url or f"sqlite:///{folder / 'gateway.db'}",
        folder / "data",
        speech={"default_model": "", "catalogue": str(catalogue)},
        dashscope={"api_key": told.key, "base_url": f"{told.url}/api/v1"},
    )
    async with running(settings, None) as gateway:
        await _go()
        left, recording = iter(range(told.requests)), counting.encode([1])
        ends = await asyncio.gather(*(_in_turn(gateway, left, recording) for _ in range(CALLERS)))
    return sum(ends)


async def _in_turn(gateway: Gateway, left: Iterator[int], recording: bytes) -> int:
    failed = 0
    for _ in left:
        sent = await gateway.send(recording, wait=0)
        await gateway.services.worker.wait(sent.json()["id"], JOB_SECONDS)
        job = await gateway.get(f"/v1/transcriptions/{sent.json()['id']}")
        failed += job.json()["status"] != "completed"
    return failed
