"""The use-case: what a transcription would cost and how long it would take, and nothing is kept."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from app.access.principal import Principal
from app.audio.fetch import Fetcher
from app.audio.inspect import Inspector
from app.audio.intake import Received
from app.audio.probe import Probe
from app.audio.store import BlobStore
from app.billing.prices import PriceRow, Tariff, rows_of, tariff_of
from app.db.database import Database
from app.errors import (
    AudioTooLong,
    CostAboveLimit,
    InvalidParameter,
    MissingAudio,
    SecondsAboveLimit,
    SeveralFiles,
)
from app.jobs.planning import Planner, ProbedAudio
from app.jobs.store.backlog import JobAhead, jobs_ahead
from app.jobs.store.create import JobSpec
from app.jobs.store.routes import fallbacks
from app.jobs.store.spending_limit import SpendingLimit
from app.kit.clock import Clock
from app.settings import Settings
from app.speech.engine import Engine, ReportsThroughput, Throughput
from app.speech.options import Options
from app.speech.planning.queue_simulation import Ahead, Lane, seconds_until_text

SECONDS = "seconds"
TASK_SECONDS, TASK_SHARE = 20.0, 0.02  # of an upstream's task and of its recording: no measure yet

Refusal = CostAboveLimit | SecondsAboveLimit


@dataclass(frozen=True, slots=True)
class Wait:
    """`seconds` from now to the text, None where the length is unknown; `basis` says from what."""

    seconds: float | None
    pace: Throughput
    jobs_ahead: int
    jobs_running: int
    basis: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What would become of a request; `most_nano` is what would be held for it.

    `refusal`: why it would be refused for its own limits; then they do not bound `most_nano`.
    """

    wish: JobSpec
    seconds: float | None
    tariff: Tariff
    prices: Sequence[PriceRow]
    max_nano: int
    refusal: Refusal | None
    wait: Wait


class Estimator:
    """Estimates with the parts it is given; `calls_together`: of one job, at once."""

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
        calls_together: int = 1,
    ) -> None:
        self._db = db
        self._store = store
        self._planner = planner
        self._inspector = inspector
        self._fetcher = fetcher
        self._engines = engines
        self._settings = settings
        self._now = clock
        self._calls_together = calls_together

    async def estimate(
        self,
        principal: Principal,
        received: Received,
        preferred: Mapping[str, Any] = MappingProxyType({}),
    ) -> Estimate:
        """Judge a request as it would be accepted, and let go of all that it brought.

        A recording behind a URL is not fetched: its length is unknown. Raises as `accept` does,
        but for limits that would be passed: those are told.
        """
        async with AsyncExitStack() as undo:
            if received.upload is not None:
                undo.push_async_callback(received.upload.discard)
            said = self._said_seconds(received)
            judged = self._planner.resolve(received, preferred)
            looked = None
            if said is not None:
                looked = _as_said(said, judged.options)
            elif received.upload is not None:
                blob = await received.upload.finish(principal.project_id)
                undo.push_async_callback(self._store.erase, blob.key)
                looked = ProbedAudio(
                    await self._inspector.inspect(blob.key, judged.raw), blob.bytes
                )
            elif received.url is not None:
                self._fetcher.check(received.url)
            else:
                raise MissingAudio
            wish = self._planner.spec(judged, looked)
        seconds = None if looked is None else looked.found.seconds
        tariff, prices, most, earlier = await self._db.read(_read, wish, now=self._now())
        ceiling = wish.ceiling or SpendingLimit()
        refusal = _refusal(ceiling, tariff, wish)
        if refusal is None:
            most = ceiling.held(most)
        wait = await self._wait(wish, seconds, earlier)
        return Estimate(wish, seconds, tariff, prices, most, refusal, wait)

    def _said_seconds(self, received: Received) -> float | None:
        """Take the length out of a request that gives one instead of a recording."""
        said = received.options.pop(SECONDS, None)
        if said is None or said == "":
            return None
        if received.upload is not None or received.url is not None:
            raise SeveralFiles("Give a recording, or its length in `seconds`, not both.")
        try:
            seconds = 0.0 if isinstance(said, bool) else float(said)
        except (TypeError, ValueError, OverflowError):
            seconds = 0.0
        if not 0 < seconds < float("inf"):
            words = "`seconds` takes a number greater than 0: the length of a recording."
            raise InvalidParameter(words, parameter=SECONDS)
        most = self._settings.audio.max_seconds
        if seconds > most:
            raise AudioTooLong(
                f"The recording may have {most:,} s at most.",
                seconds=seconds,
                max_seconds=most,
            )
        return seconds

    async def _wait(
        self, wish: JobSpec, seconds: float | None, earlier: Sequence[JobAhead]
    ) -> Wait:
        parts = 1 if wish.expected is None else wish.expected.parts
        sound = (seconds or 0.0) / parts
        mine = (wish.engine, str(wish.plan["upstream_model"]))
        paces = {mine: await self._pace(*mine, sound)}
        for one in earlier:
            where = (one.engine, one.upstream_model)
            if where not in paces:
                paces[where] = await self._pace(*where, sound)
        running = sum(one.is_running for one in earlier)
        pace, ahead = paces[mine], len(earlier) - running
        basis = _basis(
            pace, len(earlier) - running, running, self._settings.jobs.max_concurrent_jobs
        )
        if seconds is None:
            return Wait(None, pace, ahead, running, "the recording's length is not known")
        if wish.plan["kind"] == "filetrans":
            task = TASK_SECONDS + TASK_SHARE * seconds
            words = "no measure of tasks yet: a default of 20 s and 2 % of the recording's length"
            return Wait(pace.next_seconds + task, pace, ahead, running, words)
        found = await asyncio.to_thread(
            seconds_until_text,
            {_name(*where): _lane(pace) for where, pace in paces.items()},
            [
                Ahead(_name(one.engine, one.upstream_model), one.calls, one.is_running, one.ages)
                for one in earlier
            ],
            Ahead(_name(*mine), parts, is_running=False),
            jobs_at_once=self._settings.jobs.max_concurrent_jobs,
            calls_together=self._calls_together,
        )
        return Wait(found, pace, ahead, running, basis)

    async def _pace(self, engine: str, model: str, sound_seconds: float) -> Throughput:
        found = self._engines.get(engine)
        return (
            await found.pace(model, sound_seconds)
            if isinstance(found, ReportsThroughput)
            else Throughput()
        )


def _read(
    tx: sa.Connection, wish: JobSpec, *, now: datetime
) -> tuple[Tariff, Sequence[PriceRow], int, Sequence[JobAhead]]:
    """Return the price and its rows, what the calls can cost at most, and who comes before."""
    bounded = any(wish.max_tokens)
    tariff = tariff_of(tx, model=wish.model, region=wish.region, now=now, tokens_bounded=bounded)
    others = fallbacks(tx, wish.model, wish.others, tariff, now=now, tokens_bounded=bounded)
    bound = (wish.max_ms, *wish.max_tokens)
    most = max(one.cost(*bound) for one in (tariff, *(route.tariff for route in others)))
    earlier = jobs_ahead(tx, now=now, priority=wish.priority)
    return tariff, rows_of(tx, tariff), most, earlier


def _refusal(ceiling: SpendingLimit, tariff: Tariff, wish: JobSpec) -> Refusal | None:
    """Return why the limits would refuse it. Raises InvalidParameter for another currency."""
    try:
        ceiling.check(tariff, wish.expected)
    except (CostAboveLimit, SecondsAboveLimit) as error:
        return error
    return None


def _as_said(seconds: float, options: Options) -> ProbedAudio:
    """Return what would be found of a recording of this length, of which nothing else is known."""
    rate = options.sample_rate or 16_000
    return ProbedAudio(Probe("", "", 1, rate, seconds), 0)


def _name(engine: str, model: str) -> str:
    return f"{engine} {model}"


def _lane(pace: Throughput) -> Lane:
    return Lane(pace.next_seconds, pace.gap_seconds, pace.call_seconds, pace.max_concurrent_calls)


def _basis(pace: Throughput, waiting: int, running: int, at_once: int) -> str:
    """Say what the wait rests on."""
    lately = f"the moving average of {pace.measured} calls"
    took = lately if pace.measured else "a default, as none was measured yet"
    words: list[Any] = [
        f"{running} jobs run and {waiting} wait before it, {at_once} at once",
        f"a call takes {pace.call_seconds:.2f} s ({took})",
    ]
    if pace.gap_seconds:
        gap, first = pace.gap_seconds, pace.next_seconds
        words.append(f"calls leave every {gap:.2f} s, the next free one in {first:.1f} s")
    if pace.reason:
        words.append(pace.reason)
    return "; ".join(words)
