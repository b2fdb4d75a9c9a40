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
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from app.access.principal import ALL_SCOPES, Principal
from app.access.projects import DEFAULT_PROJECT, ensure_project
from app.billing.prices import PriceRow, load_prices
from app.db.database import Database
from app.db.migrate import open_database
from app.jobs.execution.commit_part import PartOutcome, commit_part
from app.jobs.execution.progress import Progress
from app.jobs.store import calls
from app.jobs.store.calls import Answered
from app.jobs.store.create import create_job
from app.jobs.store.job import Job
from app.jobs.store.job_spec import JobOptions, JobPlan, JobSpec
from app.jobs.store.parts import PartSpan, stored_result
from app.jobs.store.recordings import NewAudio
from app.kit.clock import utc_now
from app.speech.engine import EngineAnswer, EngineUsage
from tests.support.job_records import JobRecords, snapshot
from tests.support.postgres import Databases, running_postgres

LEASE_SECONDS = 30.0
LENGTH_MS = 10_000
WARM_UP = 200
PRICED_SINCE = datetime(2026, 1, 1, tzinfo=UTC)
SHOWN = 25
PROFILED_FROM = 1_000_000_000  # numbers of recordings that no other job has
PLAN = JobPlan("direct", 120, "it fits", upstream_model="echo", min_speech_ms=250)
WISH = JobSpec("m", "scripted", "test", "auto", JobOptions(), PLAN, LENGTH_MS)
ANSWER = EngineAnswer("heard", "en", usage=EngineUsage(10.0, raw={"seconds": 10.0}))
WORDS = {"text": "heard", "language": "en", "emotion": None, "segments": [], "coverage": 1.0}
STRETCH = PartSpan(0, 0, LENGTH_MS, LENGTH_MS, "0" * 64)
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
    async with open_database(url, pool=asked.tasks) as db:
        core = core_of(await principal_of(db))
        await db.write(BARE.create)
        await rate(db, core, WARM_UP, asked.tasks)
        bare = await rate(db, bare_inserts, asked.jobs, asked.tasks)
        jobs = await rate(db, core, asked.jobs, asked.tasks)
        print(f"{name}: {jobs}; bare {bare}; ratio {jobs.a_second / bare.a_second:.2f}", flush=True)
        if asked.profile:
            await db.write(profiled, await principal_of(db))
        broken = list(JobRecords(await db.read(snapshot)).violations())
        assert not broken, broken[:3]


@dataclass(frozen=True)
class Rate:
    """`cpu_ms` is this process's own, which a busy machine changes less than the rate."""

    a_second: float
    cpu_ms: float

    def __str__(self) -> str:
        return f"{self.a_second:,.0f} jobs/s at {self.cpu_ms:.2f} ms of CPU"


async def rate(db: Database, step: Step, count: int, tasks: int) -> Rate:
    """Return how fast `step` is done by so many tasks together."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await step(db, number)

    started, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(tasks)))
    took, used = time.perf_counter() - started, time.process_time() - used
    return Rate(count / took, used / count * 1000)


async def bare_inserts(db: Database, number: int) -> None:
    for id_ in (2 * number, 2 * number + 1):
        await db.write(_insert_bare, id_)


def _insert_bare(tx: sa.Connection, id_: int) -> None:
    tx.execute(sa.insert(BARE).values(id=id_))


async def principal_of(db: Database) -> Principal:
    """Return who is charged, once the model has a price."""
    now = utc_now()
    project = await db.write(ensure_project, DEFAULT_PROJECT, now=now)
    price = PriceRow("m", "test", "second", 220_000, "CNY", PRICED_SINCE, None, "made up")
    await db.write(load_prices, [price])
    return Principal(project, None, ALL_SCOPES)


def core_of(principal: Principal) -> Step:
    """Return a step that takes one job from its acceptance to its end."""
    unlike = itertools.count()

    async def step(db: Database, _number: int) -> None:
        sound = recording(next(unlike))
        submitted = await db.write(
            create_job, principal, sound, WISH, now=utc_now(), lease_seconds=LEASE_SECONDS
        )
        assert submitted.claimed is not None
        job = submitted.claimed
        route = job.routes[0]
        call = await db.write(
            calls.open_call, job, route, STRETCH, [], retry_in_doubt=True, now=utc_now()
        )
        await db.write(_end, job, Answered(route, call, STRETCH, ANSWER))

    return step


def _end(tx: sa.Connection, job: Job, answered: Answered) -> None:
    """What Transcriber writes with the last part of a job."""
    progress = Progress(job)
    progress.cut(STRETCH)
    progress.is_cut = True
    became = PartOutcome(0, stored_result(ANSWER, job.engine))
    progress.note(STRETCH, became)
    told, ending = progress.told(), progress.ending(WORDS)
    commit_part(tx, job, became, answered, told, ending, now=utc_now())


def recording(number: int) -> NewAudio:
    sha256 = f"{number:064x}"
    return NewAudio(sha256, 320_044, f"blob-{number}", "wav", "pcm_s16le", 1, 16_000, LENGTH_MS)


def one_job(tx: sa.Connection, principal: Principal, number: int) -> None:
    """The three works of a job in one transaction, as the profiler sees them best."""
    now = utc_now()
    job = create_job(
        tx, principal, recording(number), WISH, now=now, lease_seconds=LEASE_SECONDS
    ).claimed
    assert job is not None
    route = job.routes[0]
    call = calls.open_call(tx, job, route, STRETCH, [], retry_in_doubt=True, now=now)
    _end(tx, job, Answered(route, call, STRETCH, ANSWER))


def profiled(tx: sa.Connection, principal: Principal) -> None:
    """Print in which functions the time of the works themselves passes."""
    numbers = itertools.count(PROFILED_FROM)
    for _ in range(WARM_UP):
        one_job(tx, principal, next(numbers))
    with cProfile.Profile() as profile:
        for _ in range(WARM_UP):
            one_job(tx, principal, next(numbers))
    pstats.Stats(profile).sort_stats("cumtime").print_stats(r"app/|sqlalchemy|sqlite3", SHOWN)
    pstats.Stats(profile).sort_stats("tottime").print_stats(SHOWN)


if __name__ == "__main__":
    sys.exit(main())
