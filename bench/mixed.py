"""Mixed jobs before a twin that fails now and then, and at the end the books against its bill.

python -m bench.mixed [--jobs 1000] [--faults 0.2] [--seed N]

Settled must be what the twin billed for the calls it answered, the whole bill at most that and
what is in doubt, and every job ended. The gateway is the real one but for its patience with a
silent upstream (10 s) and the account's pace (tests/support/twin.py).
"""

import argparse
import asyncio
import logging
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import structlog

from tests.support.books import WORD, Books, snapshot
from tests.support.gateway import Gateway
from tests.support.twin import before
from tests.twin import FAULTS, Script, Twin
from tests.twin.answers import Pace
from tests.twin.counting import encode

MODELS = ("qwen3-asr-flash", "qwen3-asr-flash-2026-02-10", "qwen-audio-3.0-asr-flash")
ODD_MILLIS = (0, 1, 480, 500, 999)  # beyond whole seconds: where roundings differ
SHORT_SECONDS, LONG_SECONDS = (1, 2, 3, 5, 8, 13), (250, 310)
LONG_SHARE = 0.01
SENT_AT_ONCE = 32  # as many as the gateway works on at once
KINDS = [name for name in FAULTS if name != "error-in-stream"]  # the gateway asks for no streams
ACCEPTED = 202
HEADER_BYTES = 44
ANSWER_SECONDS = 10.0
JOB_SECONDS = 300.0
BYTES_PER_MS = 32
SHOWN = 20


def main() -> int:
    asked = arguments()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    folder = Path(tempfile.mkdtemp(prefix="gateway-mixed-"))
    verdict = asyncio.run(tried(asked, folder))
    print(f"seed {asked.seed}: {verdict.line()}", flush=True)
    for violation in verdict.violations[:SHOWN]:
        print(f"VIOLATION {violation}")
    if verdict.violations:
        print(f"{len(verdict.violations)} violations; the data is kept in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--faults", type=float, default=0.2, help="share of calls that meet one")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    return parser.parse_args()


@dataclass
class Verdict:
    """What was sent, the gateway's books, and the twin that knows better."""

    sent: int
    books: Books
    twin: Twin
    seconds: float

    @property
    def violations(self) -> list[str]:
        return [*self._broken_bill(), *self.books.broken_laws()]

    def _broken_bill(self) -> Iterator[str]:
        kept = self.books.statuses.total()
        if kept != self.sent:
            yield f"{self.sent} jobs were accepted, {kept} are there"
        settled, answered = self.books.settled_seconds, self.twin.bill.seconds(answered=True)
        if settled != answered:
            yield f"settled {settled} s, billed for answered calls {answered} s"
        yield from self.books.broken_bill(self.twin.bill.seconds())

    def line(self) -> str:
        books, bill = self.books, self.twin.bill
        met = Counter(call.fault for call in self.twin.calls if call.fault)
        return (
            f"{self.sent} jobs {dict(books.statuses)} in {self.seconds:.0f} s, failures "
            f"{dict(books.failures)}, {len(self.twin.calls)} calls, {met.total()} faults of "
            f"{len(met)} kinds, bill ({bill.rounding}) {bill.seconds()} s = settled "
            f"{books.settled_seconds:g} + {bill.seconds(answered=False)} of "
            f"{books.in_doubt_seconds} in doubt, {len(self.violations)} violations"
        )


async def tried(asked: argparse.Namespace, folder: Path) -> Verdict:
    started = time.monotonic()
    faults = dict.fromkeys(KINDS, asked.faults / len(KINDS))
    twin = Twin(
        seed=asked.seed, faults=faults, words=Script(WORD), pace=Pace(0.05), slow_seconds=1.0
    )
    async with twin, before(twin, folder, answer_seconds=ANSWER_SECONDS) as gateway:
        sending = asyncio.Semaphore(SENT_AT_ONCE)
        whole = encode(range(LONG_SECONDS[-1] + 1), pause_every=7)
        mixed = wishes(Random(asked.seed), asked.jobs)
        await asyncio.gather(*(run(gateway, sending, whole, *wish) for wish in mixed))
        books = Books(await gateway.parts.db.read(snapshot))
    return Verdict(asked.jobs, books, twin, time.monotonic() - started)


def wishes(random: Random, count: int) -> Iterator[tuple[int, str]]:
    """Draw the milliseconds of recordings, and their models."""
    for _ in range(count):
        lengths = LONG_SECONDS if random.random() < LONG_SHARE else SHORT_SECONDS
        millis = random.choice(lengths) * 1000 + random.choice(ODD_MILLIS)
        yield millis, random.choice(MODELS)


async def run(
    gateway: Gateway, sending: asyncio.Semaphore, whole: bytes, millis: int, model: str
) -> None:
    """Send a job and wait for its end; one that does not end, the books will show."""
    async with sending:
        sound = whole[: HEADER_BYTES + millis * BYTES_PER_MS]
        response = await gateway.send(sound, model=model, wait=0)
        assert response.status_code == ACCEPTED, response.text
        await gateway.parts.runner.wait(response.json()["id"], JOB_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
