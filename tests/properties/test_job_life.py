"""Invariants of ledger and job state hold for random sequences of operations.

A state machine does to one job what workers, callers, crashes and late answers can do to it, on
a real database, and keeps the upstream's own bill. Invariants are checked after every step.

PROPERTY_EXAMPLES and PROPERTY_STEPS set the number of examples and steps, PROPERTY_SEED the seed.

Covers: app.jobs.invariants, app.jobs.store.calls, app.jobs.store.runs
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.billing import ledger
from app.db.database import Database
from app.db.migrate import open_database
from app.errors import AlreadyEnded, Erased, NothingToRetry, StillRunning, UpstreamInDoubt
from app.jobs.store import runs
from app.jobs.store.job import Job
from app.jobs.store.runs import StaleRun
from app.kit.clock import utc_now
from app.speech.engine import Billed
from tests.support.postgres import Databases
from tests.support.scenario import (
    NANO_PER_SECOND,
    Scenario,
    answer,
    failure,
    job_spec,
    part_span,
    recording,
)

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "60"))
STEPS = int(os.environ.get("PROPERTY_STEPS", "40"))
SEED = os.environ.get("PROPERTY_SEED")
PARTS = 3
ENDED = {"completed", "failed", "cancelled"}
T = TypeVar("T")


@dataclass
class Worker:
    """A run that has claimed the job. `call` is its call in flight."""

    job: Job
    call: str | None = None
    part: int = 0


class JobLife(RuleBasedStateMachine):
    """One job, several workers, one provider."""

    make_url: Callable[[], str]
    drop: Callable[[str], None]
    loop: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.url = type(self).make_url()
        self.loop = asyncio.Runner()
        self.workers: list[Worker] = []
        self.bill_seconds = 0
        self.events_seen = 0
        self.epoch_seen = 0

    def do(self, operation: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(operation)

    @initialize(bound_seconds=st.integers(0, 9), claimed=st.booleans())
    def submit(self, bound_seconds: int, claimed: bool) -> None:
        async def begin() -> tuple[Any, Database, Scenario]:
            context = open_database(self.url)
            db = await context.__aenter__()
            scenario = await Scenario.create(
                db,
                audio=recording(seconds=6),
                wanted=job_spec(bound_seconds * 1000),
                lease_seconds=600 if claimed else None,
            )
            return context, db, scenario

        self.context, self.db, self.scenario = self.do(begin())
        if self.scenario.submitted.claimed is not None:
            self.workers.append(Worker(self.scenario.submitted.claimed))

    def holds(self, worker: Worker) -> bool:
        """Tell, by looking at the row, whether this worker still has the job."""
        row = self.do(self.scenario.row())
        return row["status"] == "processing" and row["run_epoch"] == worker.job.run.epoch

    def expect(self, worker: Worker, operation: Coroutine[Any, Any, T]) -> T | None:
        """Run a worker's operation: StaleRun exactly if the worker lost the job's lease."""
        holds = self.holds(worker)
        try:
            result = self.do(operation)
        except StaleRun:
            assert not holds
            return None
        assert holds
        return result

    # -- operations --------------------------------------------------------------------------

    @rule()
    def claim(self) -> None:
        row = self.do(self.scenario.row())
        job = self.do(self.scenario.try_claim(lease_seconds=600))
        if isinstance(job, Job):
            assert row["status"] not in ENDED
            assert job.run.epoch == row["run_epoch"] + 1
            self.workers.append(Worker(job))
        else:
            held = row["lease_until"] is not None and row["lease_until"] > datetime.now(UTC)
            assert row["status"] in ENDED or held

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), part=st.integers(0, PARTS - 1), retry=st.booleans())
    def open_call(self, data: st.DataObject, part: int, retry: bool) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        if worker.call is not None:
            return
        holds = self.holds(worker)
        done = {row["idx"] for row in self.do(self.scenario.parts()) if row["state"] == "done"}
        if holds and part in done:
            return  # a run never requests a stored part again
        try:
            worker.call = self.do(
                self.scenario.call(worker.job, part_span(part), retry_in_doubt=retry)
            )
            worker.part = part
            assert holds
        except StaleRun:
            assert not holds
        except UpstreamInDoubt:
            states = [
                row["state"] for row in self.do(self.scenario.calls()) if row["part_idx"] == part
            ]
            assert holds
            assert "in_doubt" in states

    @precondition(lambda self: any(worker.call for worker in self.workers))
    @rule(data=st.data(), seconds=st.integers(0, 4), reported=st.booleans())
    def answered(self, data: st.DataObject, seconds: int, reported: bool) -> None:
        """Let the provider answer and bill, even if the run has lost the job."""
        worker = data.draw(st.sampled_from([one for one in self.workers if one.call]))
        call, worker.call = worker.call, None
        assert call is not None
        # Without a report the bill is the length sent, which is also the gateway's measure.
        self.bill_seconds += seconds if reported else 2
        heard = answer(seconds if reported else None)
        self.expect(
            worker, self.scenario.answered(worker.job, call, part_span(worker.part), heard=heard)
        )

    @precondition(lambda self: any(worker.call for worker in self.workers))
    @rule(data=st.data(), billed=st.sampled_from([Billed.NO, Billed.MAYBE]))
    def call_failed(self, data: st.DataObject, billed: Billed) -> None:
        worker = data.draw(st.sampled_from([one for one in self.workers if one.call]))
        call, worker.call = worker.call, None
        assert call is not None
        if billed is Billed.MAYBE and data.draw(st.booleans()):
            self.bill_seconds += 2
        self.expect(worker, self.scenario.call_failed(worker.job, call, failure(billed)))

    @rule(answered_anyway=st.booleans())
    def crash(self, answered_anyway: bool) -> None:
        """Kill all workers. The provider may complete and bill their calls."""
        if answered_anyway:
            self.bill_seconds += 2 * sum(worker.call is not None for worker in self.workers)
        self.workers.clear()
        self.do(self.scenario.crash())

    @rule()
    def pause(self) -> None:
        """Expire the lease of a worker, which tries to write later."""
        self.do(self.scenario.crash())

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        self.expect(worker, self.db.write(runs.renew, worker.job.run))

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def hand_back(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        before, holds = self.do(self.scenario.row()), self.holds(worker)
        self.do(self.db.write(runs.release_run, worker.job.run))
        assert holds or self.do(self.scenario.row()) == before

    @precondition(lambda self: any(worker.call is None for worker in self.workers))
    @rule(data=st.data())
    def put_off(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from([one for one in self.workers if one.call is None]))
        before, holds = self.do(self.scenario.row()), self.holds(worker)
        self.do(self.db.write(runs.defer_run, worker.job.run, 600.0, now=utc_now()))
        after = self.do(self.scenario.row())
        assert after["lease_until"] > datetime.now(UTC) if holds else after == before

    @precondition(lambda self: any(worker.call is None for worker in self.workers))
    @rule(data=st.data(), ending=st.sampled_from(["complete", "fail"]))
    def end(self, data: st.DataObject, ending: str) -> None:
        worker = data.draw(st.sampled_from([one for one in self.workers if one.call is None]))
        self.expect(worker, getattr(self.scenario, ending)(worker.job))

    @rule(chance=st.integers(0, 3))
    def cancel(self, chance: int) -> None:
        if chance:
            return
        row = self.do(self.scenario.row())
        try:
            assert self.do(self.scenario.cancel())
            assert row["status"] not in {"completed", "failed"}
            assert row["erased_at"] is None
        except Erased:
            assert row["erased_at"] is not None
        except AlreadyEnded:
            assert row["status"] in {"completed", "failed"}

    @rule()
    def retry(self) -> None:
        row = self.do(self.scenario.row())
        try:
            reopened = self.do(self.scenario.retry())
            assert reopened
            assert row["status"] in {"failed", "cancelled"}
            assert (reopened.epoch, row["erased_at"]) == (row["run_epoch"] + 1, None)
        except Erased:
            assert row["erased_at"] is not None
        except StillRunning:
            assert row["status"] not in ENDED
        except NothingToRetry:
            assert row["status"] == "completed"

    @rule(chance=st.integers(0, 5))
    def erase(self, chance: int) -> None:
        if chance == 0:
            assert self.do(self.scenario.erase())

    # -- invariants --------------------------------------------------------------------------

    @invariant()
    def the_laws_hold(self) -> None:
        if not hasattr(self, "scenario"):
            return
        row, lines = self.do(self.scenario.row()), self.do(self.scenario.lines())
        calls = self.do(self.scenario.calls())
        money = self.do(self.db.read(ledger.totals, self.scenario.id))
        for retry_epoch in {line["retry_epoch"] for line in lines}:
            mine = [line for line in lines if line["retry_epoch"] == retry_epoch]
            self.money_adds_up(
                mine, has_ended=retry_epoch < row["retry_epoch"] or row["status"] in ENDED
            )
        self.calls_are_paid_once(lines, calls)
        self.the_bill_is_known(row, calls, money)
        self.life_goes_forward(row)

    def money_adds_up(self, lines: list[dict[str, Any]], *, has_ended: bool) -> None:
        """Check the invariants of one retry epoch."""
        assert all(line["nano"] >= 0 for line in lines)
        held, settled, released = (
            sum(line["nano"] for line in lines if line["kind"] == kind)
            for kind in ("hold", "settle", "release")
        )
        # Nothing is ever given back twice, or out of nothing.
        assert held - released >= min(settled, held)
        if has_ended:
            assert held == settled + released or (settled > held and released == 0)
        else:
            assert released == 0
        releases = [line for line in lines if line["kind"] == "release"]
        assert len(releases) == has_ended

    def calls_are_paid_once(self, lines: list[dict[str, Any]], calls: list[dict[str, Any]]) -> None:
        settled = [line["call_id"] for line in lines if line["kind"] == "settle"]
        assert len(settled) == len(set(settled))
        assert set(settled) == {call["id"] for call in calls if call["state"] == "answered"}
        attempts = [(call["part_idx"], call["attempt"]) for call in calls]
        assert len(attempts) == len(set(attempts))

    def the_bill_is_known(
        self, row: dict[str, Any], calls: list[dict[str, Any]], money: ledger.JobTotals
    ) -> None:
        bill = self.bill_seconds * NANO_PER_SECOND
        # The maximum cost of a lost answer: this provider bills up to four seconds for two.
        doubtful = sum(
            2 * call["max_cost_nano"]
            for call in calls
            if call["state"] in {"in_doubt", "open"}
            or (call["state"] == "failed" and call["billed"] == "maybe")
        )
        assert money.settled <= bill <= money.settled + doubtful
        if row["status"] not in ENDED:
            open_bounds = sum(call["max_cost_nano"] for call in calls if call["state"] == "open")
            assert money.held >= open_bounds

    def life_goes_forward(self, row: dict[str, Any]) -> None:
        assert (row["status"] in ENDED) == (row["completed_at"] is not None)
        assert row["run_epoch"] >= self.epoch_seen
        self.epoch_seen = row["run_epoch"]
        numbers = [event["seq"] for event in self.do(self.scenario.events())]
        if row["erased_at"] is None:
            assert numbers == list(range(1, row["event_count"] + 1))
            assert len(numbers) >= self.events_seen
            self.events_seen = len(numbers)
        else:
            assert numbers == []

    def teardown(self) -> None:
        if hasattr(self, "context"):
            self.do(self.context.__aexit__(None, None, None))
        self.loop.close()
        type(self).drop(self.url)


def look(machine: type[JobLife], examples: int, steps: int = STEPS) -> None:
    sys.stdout.write(
        f"PROPERTY_SEED={SEED or 'fixed'} PROPERTY_EXAMPLES={examples} PROPERTY_STEPS={steps}\n"
    )
    profile = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=SEED is None,
        database=None,
        print_blob=True,
        phases=(Phase.explicit, Phase.generate, Phase.target, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    if SEED is not None:
        machine = seed(int(SEED))(machine)
    run_state_machine_as_test(machine, settings=profile)


def test_invariants_hold_on_sqlite(migrated_sqlite: Path) -> None:
    with TemporaryDirectory() as folder:
        count = iter(range(10**9))

        class OnSqlite(JobLife):
            @staticmethod
            def make_url() -> str:
                path = Path(folder) / f"{next(count)}.db"
                shutil.copy(migrated_sqlite, path)
                return f"sqlite:///{path}"

            @staticmethod
            def drop(url: str) -> None:
                Path(url.removeprefix("sqlite:///")).unlink()

        look(OnSqlite, EXAMPLES)


@pytest.mark.timeout(300)
def test_invariants_hold_on_postgresql(postgres: Databases) -> None:
    class OnPostgres(JobLife):
        make_url = staticmethod(postgres.migrated)
        drop = staticmethod(postgres.drop)

    look(OnPostgres, max(1, EXAMPLES // 8), STEPS // 2)
