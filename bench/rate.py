"""The rate limit of an account against a simulator that counts calls per minute, second and burst.

python -m bench.rate [--requests 1500] [--scale 8] [--processes 1] [--rows] [--jobs]

The simulator's minutes are `scale` times shorter, and so are the gateway's. Senders are processes
of their own that always have prepared parts. There must be no 429, and at least 95 % of the allowed
calls in every complete minute. All processes detect stalls of the machine, which a fast clock
magnifies. Deviations that a stall explains are counted and shown, and are no violation.
"""

import argparse
import asyncio
import json
import logging
import shutil
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import quantiles

from app.kit.log import log
from app.speech.engines.http.admission import BLOCK_SECONDS
from bench.rate_sender import MODEL, Sent, send
from tests.simulator import Limits, ProviderSimulator, Script
from tests.support.postgres import Databases, running_postgres
from tests.support.stalls import Stall, stalls

LIMITS = Limits(rpm=True, per_second=True, burst=2)
CALLS_A_MINUTE = 100
MINUTE = 60.0
LEAST_SHARE = 0.95
TOO_MANY = 429
# In simulator seconds: two steps are 1.22 s, so that much may be lost before three calls share a
# second; only a standstill this near to a 429 explains it, and a minute with more is not judged.
SLACK_SECONDS, REACH_SECONDS = 0.15, 1.3
MOST_STOOD_SECONDS = 1.0


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1] == "--send":
        return asyncio.run(send(Sent(**json.loads(sys.argv[2]))))
    asked = arguments()
    log.threshold = logging.CRITICAL
    folder = Path(tempfile.mkdtemp(prefix="gateway-rate-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        url = ""
        if asked.rows:
            url = Databases(stack.enter_context(running_postgres())).migrated()
        run = asyncio.run(measured(asked, folder, url))
    for line in run.lines():
        print(line)
    for violation in (broken := list(run.violations())):
        print(f"VIOLATION {violation}")
    return 1 if broken else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_500)
    parser.add_argument("--scale", type=float, default=8.0, help="speed of the clock")
    parser.add_argument("--processes", type=int, default=1, help="more than 1 needs --rows")
    parser.add_argument("--rows", action="store_true", help="share the limit in PostgreSQL")
    parser.add_argument("--jobs", action="store_true", help="send complete jobs")
    asked = parser.parse_args()
    if asked.processes > 1 and not asked.rows:
        parser.error("processes share a pace in rows only: --rows")
    return asked


@dataclass
class Run:
    """The calls at the simulator, in its own seconds since the parts were ready."""

    name: str
    moments: list[float]
    refused: list[float]
    failed: int
    seconds: float
    stalls: list[Stall]
    held: float

    def minutes(self) -> list[int]:
        """Return the calls of each minute that was over before the last call."""
        whole = int(max(self.moments) // MINUTE)
        counts = [0] * whole
        for moment in self.moments:
            if moment < whole * MINUTE:
                counts[int(moment // MINUTE)] += 1
        return counts

    def explained(self) -> list[float]:
        """Return the times of 429s that a stall of a process explains: delayed calls met."""
        return [
            moment
            for moment in self.refused
            if any(
                -REACH_SECONDS < moment - stall.at - stall.seconds < REACH_SECONDS
                or stall.at < moment < stall.at + stall.seconds
                for stall in self.stalls
                if stall.seconds > SLACK_SECONDS
            )
        ]

    def is_judged(self, minute: int) -> bool:
        """Tell whether this minute had no stall, so that only the gateway determined its calls."""
        start, end = minute * MINUTE, (minute + 1) * MINUTE
        stood = sum(stall.seconds for stall in self.stalls if start <= stall.at < end)
        holds = (moment for moment in self.explained() if moment < end)
        return stood < MOST_STOOD_SECONDS and not any(at + self.held > start for at in holds)

    def violations(self) -> Iterator[str]:
        if unexplained := len(self.refused) - len(self.explained()):
            yield f"{unexplained} times 429"
        if self.failed > len(self.refused):
            yield f"{self.failed - len(self.refused)} calls failed otherwise"
        for number, count in enumerate(self.minutes()):
            if count < LEAST_SHARE * CALLS_A_MINUTE and self.is_judged(number):
                yield f"{count} calls in minute {number}"

    def lines(self) -> Iterator[str]:
        judged = []
        for number, count in enumerate(self.minutes()):
            share, is_judged = count / CALLS_A_MINUTE, self.is_judged(number)
            judged += [share] if is_judged else []
            yield f"minute {number:2}: {count} calls, {share:.0%}{'' if is_judged else ' (stood)'}"
        parts = quantiles((b - a for a, b in pairwise(sorted(self.moments))), n=100)
        yield (
            f"{self.name}: {len(self.moments)} calls in {self.seconds:.0f} s; "
            f"{len(self.refused)} times 429, {len(self.explained())} after a standstill of over "
            f"{SLACK_SECONDS} s; {min(judged, default=0):.0%} to {max(judged, default=0):.0%} of "
            f"the rate in {len(judged)} of {len(self.minutes())} minutes, without those in which "
            f"a process stood; most calls in any minute {self._most(MINUTE)}, in any second "
            f"{self._most(1)}; gaps {parts[0]:.2f}/{parts[49]:.2f}/{parts[98]:.2f} s (1/50/99 %); "
            f"longest standstill {max((stall.seconds for stall in self.stalls), default=0):.2f} s"
        )

    def _most(self, window: float) -> int:
        moments, first, most = sorted(self.moments), 0, 0
        for at, moment in enumerate(moments):
            while moments[first] <= moment - window:
                first += 1
            most = max(most, at - first + 1)
        return most


async def measured(asked: argparse.Namespace, folder: Path, database_url: str) -> Run:
    began = time.monotonic()
    async with ProviderSimulator(
        words=Script("a"), limits=LIMITS, clock_scale=asked.scale
    ) as simulator:
        senders = [
            await _started(asked, simulator, Path(tempfile.mkdtemp(dir=folder)), database_url)
            for _ in range(asked.processes)
        ]
        for sender in senders:
            assert sender.stdout
            assert await sender.stdout.readline() == b"ready\n"
        ready, ready_ours = simulator.clock.now(), time.monotonic()
        async with stalls() as late:
            outs = await asyncio.gather(*(sender.communicate(b"go\n") for sender in senders))
        made = [call for call in simulator.calls if call.model == MODEL]
    ends = [json.loads(out) for out, _ in outs]
    stood = [Stall(*stall) for stall in (*late, *(one for _, theirs in ends for one in theirs))]
    return Run(
        f"{asked.processes} x {'jobs' if asked.jobs else 'calls'}, scale {asked.scale:g}, "
        f"{'rows' if asked.rows else 'memory'}",
        [call.at - ready for call in made],
        [call.at - ready for call in made if call.status == TOO_MANY],
        sum(failed for failed, _ in ends),
        time.monotonic() - began,
        [Stall((at - ready_ours) * asked.scale, long * asked.scale) for at, long in stood],
        BLOCK_SECONDS * asked.scale,
    )


async def _started(
    asked: argparse.Namespace, simulator: ProviderSimulator, folder: Path, database_url: str
) -> Process:
    told = Sent(
        url=simulator.url,
        key=simulator.key,
        calls_per_minute=CALLS_A_MINUTE * asked.scale,
        requests=asked.requests // asked.processes,
        database_url=database_url,
        folder=str(folder) if asked.jobs else "",
    )
    command = [sys.executable, "-m", "bench.rate", "--send", json.dumps(told.__dict__)]
    return await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)


if __name__ == "__main__":
    sys.exit(main())
