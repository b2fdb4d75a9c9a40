"""Jobs a second that the database accepts and settles, without HTTP, audio or an engine.

python -m bench.core_rate [--jobs 4000] [--tasks 32] [--rounds 3] [--profile]

Each job consists of the two commits of a direct job whose first call is admitted at once: job,
audio, hold and call; then answer, settle, transcript and end. Rounds alternate between prepared
statements, as the gateway uses them, and SQLAlchemy Core's own execution of the same statements:
the ratio of their CPU times is the gain of the preparation. The baseline, in the same run on the
same disk, is two single-row INSERT commits per job through the same Database.
"""

import argparse
import asyncio
import cProfile
import itertools
import pstats
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import sqlalchemy as sa

from app.access.principal import ALL_SCOPES, Principal
from app.access.projects import DEFAULT_PROJECT, ensure_project
from app.billing.prices import PriceRow, load_prices
from app.db import driver
from app.db.database import Database
from app.db.migrate import open_database
from app.db.prepared import Prepared
from app.jobs.execution.commit_part import PartOutcome, commit_part
from app.jobs.execution.progress import Progress
from app.jobs.store.calls import Answered
from app.jobs.store.create import CreatedJob, create_job
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
PLAN = JobPlan(
    "direct",
    120,
    "m takes 120 s in one call and the audio has 10.0 s",
    upstream_model="echo",
    min_speech_ms=250,
)
SPEC = JobSpec("m", "scripted", "test", "auto", JobOptions(), PLAN, LENGTH_MS)
ANSWER = EngineAnswer("heard", "en", usage=EngineUsage(10.0, raw={"seconds": 10.0}))
TRANSCRIPT = {"text": "heard", "language": "en", "emotion": None, "segments": [], "coverage": 1.0}
BARE = sa.Table(
    "bare", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True, autoincrement=False)
)
_ADD_BARE = Prepared(sa.insert(BARE))
SPAN = PartSpan(0, 0, LENGTH_MS, LENGTH_MS, "0" * 64)

Step = Callable[[Database, int], Awaitable[None]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=4_000)
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each kind")
    parser.add_argument("--profile", action="store_true", help="print a profile")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gateway-core-") as folder:
        url = f"sqlite:///{Path(folder) / 'gateway.db'}"
        asyncio.run(measure("SQLite (FULL)", url, asked))
    with running_postgres() as server:
        asyncio.run(measure("PostgreSQL", Databases(server).empty(), asked))
    return 0


async def measure(name: str, url: str, asked: argparse.Namespace) -> None:
    async with open_database(url, pool=asked.tasks) as db:
        principal = await principal_of(db)
        job, single = job_step(principal), bare_step()
        await db.write(BARE.create)
        await rate(db, job, WARM_UP, asked.tasks)
        counts = await counted(db, job)
        bare, by_prepared, by_core = [], [], []
        for _ in range(asked.rounds):
            bare.append(await rate(db, single, asked.jobs, asked.tasks))
            by_prepared.append(await rate(db, job, asked.jobs, asked.tasks))
            with executed_by_core():
                by_core.append(await rate(db, job, asked.jobs, asked.tasks))
        print(f"{name}: {counts['commits']} commits, {counts['statements']} statements a job")
        for kind, rates in (("prepared", by_prepared), ("Core", by_core), ("bare", bare)):
            print(f"  {kind:8} {median(rates)}")
        cpu = median(by_core).cpu_ms / median(by_prepared).cpu_ms
        speed = median(by_prepared).a_second / median(bare).a_second
        print(
            f"  CPU of Core / prepared {cpu:.2f}; rate of prepared / bare {speed:.2f}", flush=True
        )
        if asked.profile:
            await db.write(profiled, principal)
        broken = list(JobRecords(await db.read(snapshot)).violations())
        assert not broken, broken[:3]


@dataclass(frozen=True)
class Rate:
    """The result of a round. `cpu_ms` is the CPU time of this process."""

    a_second: float
    cpu_ms: float

    def __str__(self) -> str:
        return f"{self.a_second:,.0f} jobs/s at {self.cpu_ms:.2f} ms of CPU"


def median(rates: Sequence[Rate]) -> Rate:
    rows = [asdict(rate) for rate in rates]
    return Rate(**{name: statistics.median(row[name] for row in rows) for name in rows[0]})


async def rate(db: Database, step: Step, count: int, tasks: int) -> Rate:
    """Return the rate of `step` with this number of concurrent tasks."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await step(db, number)

    started, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(tasks)))
    took, used = time.perf_counter() - started, time.process_time() - used
    return Rate(count / took, used / count * 1000)


async def counted(db: Database, step: Step) -> Counter[str]:
    """Return the statements and commits of one job; BEGIN, SAVEPOINT and COMMIT are not counted."""
    counts: Counter[str] = Counter()
    execute = driver.execute

    def by_driver(*args: Any, **kwargs: Any) -> Any:
        counts["statements"] += 1
        return execute(*args, **kwargs)

    def by_core(*_: object) -> None:
        counts["statements"] += 1

    class Counting:
        async def write(self, *args: Any, **kwargs: Any) -> Any:
            counts["commits"] += 1
            return await db.write(*args, **kwargs)

    sa.event.listen(sa.Engine, "before_cursor_execute", by_core)
    with mock.patch.object(driver, "execute", by_driver):
        await step(Counting(), 0)  # type: ignore[arg-type]
    sa.event.remove(sa.Engine, "before_cursor_execute", by_core)
    return counts


@contextmanager
def executed_by_core() -> Iterator[None]:
    """Execute prepared statements through SQLAlchemy Core inside the block."""

    def run(self: Any, tx: sa.Connection, values: Mapping[str, Any] = {}) -> Any:
        return tx.execute(self._statement, values).rowcount

    def run_many(self: Any, tx: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            tx.execute(self._statement, rows)

    def fetch_all(self: Any, tx: sa.Connection, values: Mapping[str, Any] = {}) -> Any:
        return tx.execute(self._statement, values).all()

    methods = {"run": run, "run_many": run_many, "add": run, "add_many": run_many, "all": fetch_all}
    with mock.patch.multiple(Prepared, **methods):
        yield


def bare_step() -> Step:
    ids = itertools.count()

    async def step(db: Database, _number: int) -> None:
        for _ in range(2):
            await db.write(_insert_bare, next(ids))

    return step


def _insert_bare(tx: sa.Connection, id_: int) -> None:
    _ADD_BARE.run(tx, {"id": id_})


async def principal_of(db: Database) -> Principal:
    """Create a project and a price for the model. Return the principal of the project."""
    now = utc_now()
    project = await db.write(ensure_project, DEFAULT_PROJECT, now=now)
    price = PriceRow("m", "test", "second", 220_000, "CNY", PRICED_SINCE, None, "made up")
    await db.write(load_prices, [price])
    return Principal(project, None, ALL_SCOPES)


def job_step(principal: Principal) -> Step:
    """Return a step that takes one job from its acceptance to its end."""
    unlike = itertools.count()

    async def step(db: Database, _number: int) -> None:
        created = await db.write(_create, principal, next(unlike))
        await db.write(_end, created)

    return step


def _create(tx: sa.Connection, principal: Principal, number: int) -> CreatedJob:
    audio = audio_of(number)
    return create_job(
        tx, principal, audio, SPEC, now=utc_now(), lease_seconds=LEASE_SECONDS, first_span=SPAN
    )


def _end(tx: sa.Connection, created: CreatedJob) -> None:
    """Commit the only part of a job and with it the job's end, as JobRun does."""
    assert created.claimed is not None
    assert created.first_call is not None
    job: Job = created.claimed
    progress = Progress(job)
    progress.add_part(SPAN)
    progress.is_cut = True
    part_outcome = PartOutcome(0, stored_result(ANSWER, job.engine))
    progress.record(SPAN, part_outcome)
    update, completion = progress.take_update(), progress.completion(TRANSCRIPT)
    answered = Answered(job.routes[0], created.first_call[0], SPAN, ANSWER)
    commit_part(tx, job, part_outcome, answered, update, completion, now=utc_now())


def audio_of(number: int) -> NewAudio:
    sha256 = f"{number:064x}"
    return NewAudio(sha256, 320_044, f"blob-{number}", "wav", "pcm_s16le", 1, 16_000, LENGTH_MS)


def profiled(tx: sa.Connection, principal: Principal) -> None:
    """Print the CPU time of the functions in a job's transactions."""
    numbers = itertools.count(PROFILED_FROM)
    for _ in range(WARM_UP):
        _end(tx, _create(tx, principal, next(numbers)))
    with cProfile.Profile() as profile:
        for _ in range(WARM_UP):
            _end(tx, _create(tx, principal, next(numbers)))
    pstats.Stats(profile).sort_stats("cumtime").print_stats(r"app/|sqlalchemy|sqlite3", SHOWN)
    pstats.Stats(profile).sort_stats("tottime").print_stats(SHOWN)


if __name__ == "__main__":
    sys.exit(main())
