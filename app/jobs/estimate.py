"""The use-case: estimate the cost and the duration of a request without storing it."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from math import ceil
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from app.access.principal import Principal
from app.audio.inspection.inspect import Inspector
from app.audio.intake.download import Fetcher
from app.audio.intake.receive import Received
from app.audio.probe import Probe
from app.audio.storage.blob_store import BlobStore
from app.billing.prices import PriceRow, Tariff, prices_of
from app.db.database import Database
from app.errors import (
    AudioTooLong,
    CostAboveLimit,
    InvalidParameter,
    SecondsAboveLimit,
    SeveralFiles,
)
from app.jobs.planning import Planner, ProbedAudio
from app.jobs.store.backlog import Backlog, backlogs_ahead
from app.jobs.store.job_spec import JobSpec
from app.jobs.store.routes import quote
from app.jobs.store.spending_limit import SpendingLimit
from app.kit.clock import Clock
from app.settings import Settings
from app.speech.engine import SAMPLE_RATE, Engine, Throughput
from app.speech.members import missing_audio

SECONDS = "seconds"  # the member that gives the length of an audio instead of the audio
TASK_SECONDS, TASK_SHARE = 20.0, 0.02  # assumed duration of a task: fixed + share of the audio
_TASK_BASIS = "a default, tasks are not measured: 20 s and 2 % of the length of the audio"

Refusal = CostAboveLimit | SecondsAboveLimit


@dataclass(frozen=True, slots=True)
class Wait:
    """Expected time until the transcript; `seconds` is None where the audio's length is unknown.

    `basis` gives the figures of the formula in words.
    """

    seconds: float | None
    throughput: Throughput
    jobs_waiting: int
    jobs_running: int
    basis: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """The job that a request would create, and its cost and duration.

    `max_nano` is the amount that would be held. `refusal` is the error of a request whose own
    limits are too low; then they do not limit `max_nano`.
    """

    spec: JobSpec
    seconds: float | None
    tariff: Tariff
    prices: Sequence[PriceRow]
    max_nano: int
    refusal: Refusal | None
    wait: Wait


class Estimator:
    """Estimates the cost and the duration of a request without storing anything of it."""

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        planner: Planner,
        inspector: Inspector,
        fetcher: Fetcher,
        engines: Mapping[str, Engine],
        *,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._db = db
        self._store = store
        self._planner = planner
        self._inspector = inspector
        self._fetcher = fetcher
        self._engines = engines
        self._settings = settings
        self._now = clock

    async def estimate(
        self,
        principal: Principal,
        received: Received,
        preferred: Mapping[str, Any] = MappingProxyType({}),
    ) -> Estimate:
        """Plan a request as a submission does, and delete its upload.

        A URL is not fetched, so the length of its audio is unknown. Raises the errors of a
        submission, except for limits of cost and seconds: they are in the estimate.
        """
        async with AsyncExitStack() as undo:
            if received.upload is not None:
                undo.push_async_callback(received.upload.discard)
            length = self._take_seconds(received)
            request = self._planner.resolve(received, preferred)
            probed = None
            if length is not None:
                rate = request.options.sample_rate or SAMPLE_RATE
                probed = ProbedAudio(Probe("", "", 1, rate, length), 0)
            elif received.upload is not None:
                blob = await received.upload.finish(principal.project_id)
                undo.push_async_callback(self._store.erase, blob.key)
                probe = await self._inspector.inspect(blob, request.raw)
                probed = ProbedAudio(probe, blob.bytes)
            elif received.url is not None:
                self._fetcher.check(received.url)
            else:
                raise missing_audio(received.options)
            spec = self._planner.spec(request, probed)
        seconds = None if probed is None else probed.found.seconds
        tariff, prices, max_nano, backlogs = await self._db.read(_read, spec, now=self._now())
        limit = spec.options.spending_limit or SpendingLimit()
        refusal: Refusal | None = None
        try:
            limit.check(tariff, spec.expected)
        except (CostAboveLimit, SecondsAboveLimit) as error:
            refusal = error
        else:
            max_nano = limit.held(max_nano)
        wait = self._wait(spec, seconds, backlogs)
        return Estimate(spec, seconds, tariff, prices, max_nano, refusal, wait)

    def _take_seconds(self, received: Received) -> float | None:
        """Take `seconds` out of the options. Raises if the request also has audio."""
        value = received.options.pop(SECONDS, None)
        if value is None or value == "":
            return None
        if received.upload is not None or received.url is not None:
            raise SeveralFiles("Send an audio or its length in `seconds`, not both.")
        try:
            seconds = 0.0 if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            seconds = 0.0
        if not 0 < seconds < float("inf"):
            detail = "`seconds` must be a number greater than 0: the length of the audio."
            raise InvalidParameter(detail, parameter=SECONDS)
        longest = self._settings.audio.max_seconds
        if seconds > longest:
            raise AudioTooLong(
                f"The audio may have at most {longest:,} s.",
                seconds=seconds,
                max_seconds=longest,
            )
        return seconds

    def _wait(self, spec: JobSpec, seconds: float | None, backlogs: Sequence[Backlog]) -> Wait:
        parts = 1 if spec.expected is None else spec.expected.parts
        part_seconds = (seconds or 0.0) / parts
        route = (spec.engine, spec.plan.upstream_model)
        own = self._throughput(*route, part_seconds)
        if spec.plan.kind == "filetrans":
            own = replace(own, call_seconds=TASK_SECONDS + TASK_SHARE * (seconds or 0.0))
            expected, basis = own.paused_seconds + own.call_seconds, _TASK_BASIS
        else:
            ahead = [
                (b, self._throughput(b.engine, b.upstream_model, part_seconds)) for b in backlogs
            ]
            expected, basis = expected_wait(
                ahead,
                route,
                own,
                parts,
                max_jobs=self._settings.jobs.max_concurrent_jobs,
                max_parts=self._settings.jobs.max_concurrent_parts,
            )
        running = sum(one.running for one in backlogs)
        return Wait(
            None if seconds is None else expected,
            own,
            sum(one.jobs for one in backlogs) - running,
            running,
            "the length of the audio is not known" if seconds is None else basis,
        )

    def _throughput(self, engine: str, model: str, audio_seconds: float) -> Throughput:
        found = self._engines.get(engine)
        return found.throughput(model, audio_seconds) if found else Throughput()


def expected_wait(
    ahead: Sequence[tuple[Backlog, Throughput]],
    route: tuple[str, str],
    own: Throughput,
    parts: int,
    *,
    max_jobs: int,
    max_parts: int,
) -> tuple[float, str]:
    """Return the seconds until a new job has its last answer, and the formula in words.

    A new job waits for a job slot, for a call slot and for its turn at the account's rate, each
    taken as the work ahead divided by the capacity. The longest of the three counts; its own calls
    follow. `route` is the engine and model of its `parts` calls, `own` their throughput.
    """
    jobs, running = sum(b.jobs for b, _ in ahead), sum(b.running for b, _ in ahead)
    job_slots = max(max_jobs, running)  # other processes may run jobs as well
    shares = [(b, t.call_seconds / min(max_parts, b.calls / b.jobs)) for b, t in ahead]
    job_seconds = sum(b.calls * share for b, share in shares) / max(1, jobs)
    jobs_left = sum(b.calls_left * share for b, share in shares)
    same = next((b for b, _ in ahead if (b.engine, b.upstream_model) == route), Backlog(*route))
    calls_left, call_slots = same.calls_left * own.call_seconds, own.max_concurrent_calls
    queue = max(
        _until_slot_is_free(jobs_left, jobs, job_seconds, job_slots),
        _until_slot_is_free(calls_left, same.calls, own.call_seconds, call_slots),
        (same.calls - same.open_calls) * own.interval_seconds,
    )
    rounds = ceil(parts / min(max_parts, call_slots))
    answers = max(rounds * own.call_seconds, (parts - 1) * own.interval_seconds + own.call_seconds)
    measured = f"the moving average of {own.measured_calls} calls"
    source = measured if own.measured_calls else "a default, no call was measured yet"
    words = [
        f"jobs ahead: {running} running, {jobs - running} waiting ({job_slots} job slots)",
        f"calls ahead: {same.calls}",
        f"wait before the first call: {queue:.1f} s",
        f"one call takes {own.call_seconds:.2f} s ({source})",
    ]
    if own.interval_seconds:
        words.append(f"the account's rate limit allows a call every {own.interval_seconds:.2f} s")
    if own.paused_seconds:
        words.append(f"the engine is paused for {own.paused_seconds:.0f} s ({own.pause_reason})")
    return own.paused_seconds + queue + answers, "; ".join(words)


def _until_slot_is_free(seconds_left: float, tasks: int, task_seconds: float, slots: int) -> float:
    """Return the seconds until one of `slots` is free after `tasks`, which take `seconds_left`.

    The last task of each slot ends at a moment spread evenly over the length of one task.
    """
    spread = (slots - 1) / 2 * task_seconds
    return max(0.0, seconds_left - spread) / slots if tasks >= slots else 0.0


def _read(
    tx: sa.Connection, spec: JobSpec, *, now: datetime
) -> tuple[Tariff, Sequence[PriceRow], int, Sequence[Backlog]]:
    """Return the price and its rows, the most that the calls can cost, and the jobs ahead."""
    price = quote(tx, spec, now=now)
    prices = prices_of(tx, price.tariff)
    return price.tariff, prices, price.max_cost_nano, backlogs_ahead(tx, priority=spec.priority)
