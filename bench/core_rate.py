"""Accept + settle: how many jobs a second the core writes, without HTTP, sound or an engine.

python -m bench.core_rate [--jobs 4000] [--tasks 32] [--profile]

Each job is three commits, those of a real one: submit (claimed), open_call, and the last one
with answer, settle, transcript and end. The bare baseline, in the same run on the same disk, is
two single-row INSERT commits a job through the same Database.
"""

import argparse
import asyncio
import cProfile
import itertools
import pstats
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app.access.principal import ALL_SCOPES, Principal
from app.access.projects import DEFAULT_PROJECT, ensure_project
from app.billing.prices import PriceRow, load_prices
from app.db.engine import Database
from app.db.migrate import opened
from app.jobs import calls, outcome, runs
from app.jobs.calls import Answered, Stretch
from app.jobs.runs import Job
from app.jobs.submit import Recording, Wish, submit
from app.kit.clock import utc_now
from app.speech.contract import EngineAnswer, EngineUsage
from app.speech.transcript import Transcript
from tests.support.books import Books, snapshot
from tests.support.postgres import Databases, running_postgres

LEASE_SECONDS = 30.0
LENGTH_MS = 10_000
WARM_UP = 200
SHOWN = 25
OPTIONS = {"language": None, "context": None, "words": False, "engine": {}, "include": []}
PLAN = {"kind": "direct", "part_seconds": 120, "why": "it fits", "upstream_model": "echo"}
WISH = Wish("m", "scripted", "test", "auto", OPTIONS, PLAN, LENGTH_MS)
ANSWER = EngineAnswer("heard", "en", usage=EngineUsage(10.0, None, {"seconds": 10.0}))
TRANSCRIPT = Transcript(text="heard", language="en", emotion=None, segments=(), coverage=1.0)
STRETCH = Stretch(0, 0, LENGTH_MS, LENGTH_MS, "0" * 64)
BARE = sa.Table("bare", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))

Step = Callable[[Database, int], Awaitable[None]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=4_000)
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument("--profile", action="store_true", help="tell where the time goes")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gateway-core-") as folder:
        url = f"sqlite:///{Path(folder) / 'gateway.db'}"
        asyncio.run(measure("SQLite (FULL)", url, asked))
    with running_postgres() as server:
        asyncio.run(measure("PostgreSQL", Databases(server).empty(), asked))
    return 0


async def measure(name: str, url: str, asked: argparse.Namespace) -> None:
    async with opened(url, pool=asked.tasks) as db:
        core = await core_of(db)
        await db.write(BARE.create)
        await rate(db, core, WARM_UP, asked.tasks)
        bare = await rate(db, bare_inserts, asked.jobs, asked.tasks)
        jobs = await rate(db, core, asked.jobs, asked.tasks)
        print(f"{name}: {jobs:,.0f} jobs/s, bare {bare:,.0f}, ratio {jobs / bare:.2f}", flush=True)
        if asked.profile:
            await profiled(db, core, asked)
        broken = list(Books(await db.read(snapshot)).broken_laws())
        assert not broken, broken[:3]


async def rate(db: Database, step: Step, count: int, tasks: int) -> float:
    """Return how often a second `step` is done by so many tasks together."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await step(db, number)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(tasks)))
    return count / (time.perf_counter() - started)


async def bare_inserts(db: Database, number: int) -> None:
    for id_ in (2 * number, 2 * number + 1):
        await db.write(_insert_bare, id_)


def _insert_bare(tx: sa.Connection, id_: int) -> None:
    tx.execute(sa.insert(BARE).values(id=id_))


async def core_of(db: Database) -> Step:
    """Return a step that takes one job from its acceptance to its end."""
    now = utc_now()
    project = await db.write(ensure_project, DEFAULT_PROJECT, now=now)
    price = PriceRow("m", "test", "second", 220_000, "CNY", now, None, "made up")
    await db.write(load_prices, [price])
    principal = Principal(project, None, ALL_SCOPES)
    unlike = itertools.count()

    async def one_job(db: Database, _number: int) -> None:
        sound = recording(next(unlike))
        submitted = await db.write(
            submit, principal, sound, WISH, now=utc_now(), lease_seconds=LEASE_SECONDS
        )
        assert submitted.claimed is not None
        job = submitted.claimed
        call = await db.write(
            calls.open_call, job, STRETCH, [], retry_in_doubt=True, now=utc_now()
        )
        await db.write(_end, job, Answered(call, STRETCH, ANSWER))

    return one_job


def _end(tx: sa.Connection, job: Job, answered: Answered) -> None:
    """What Transcriber writes with the last part of a job."""
    now = utc_now()
    said: dict[str, Any] = {"done_seconds": 10.0, "total_seconds": 10.0}
    runs.write_as(tx, job.run, now=now, events=[("progress", said)], done_ms=LENGTH_MS, idle_runs=0)
    calls.close_answered(tx, job, answered, keep_raw=False, now=now)
    outcome.complete(tx, job, TRANSCRIPT, warnings=[], done_ms=LENGTH_MS, now=now)


def recording(number: int) -> Recording:
    sha256 = f"{number:064x}"
    return Recording(sha256, 320_044, f"blob-{number}", "wav", "pcm_s16le", 1, 16_000, LENGTH_MS)


async def profiled(db: Database, core: Step, asked: argparse.Namespace) -> None:
    """Print the functions in which most time passes, on every thread that writes."""
    profile = cProfile.Profile()
    threads = [thread.name for thread in threading.enumerate()]
    print(f"  threads: {threads}")
    profile.enable()
    await rate(db, core, asked.jobs // 4, asked.tasks)
    profile.disable()
    pstats.Stats(profile).sort_stats("tottime").print_stats(SHOWN)


if __name__ == "__main__":
    sys.exit(main())
