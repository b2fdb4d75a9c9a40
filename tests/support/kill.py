"""SIGKILL at random moments under load; afterwards no acknowledged job may be lost."""

import asyncio
import io
import random
import time
import wave
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import httpx
import sqlalchemy as sa

from tests.support.job_records import JobRecords, read_rows, sqlite_violations
from tests.support.process import GatewayProcess

SPEECH = Path(__file__).parents[1] / "media" / "en_clean_10s.wav"
RATE = 16_000
CLIENTS = 8
POOL = 6  # recordings sent again and again, so that the same bytes meet
SHORTEST_SECONDS, LONGEST_SECONDS = 1.0, 20.0
DELAY_SECONDS = 0.3  # of a call
START_KILLED = 1 / 8  # share of the rounds that end while the process still starts
START_TAKES_SECONDS = 2.0
MOST_AWAITED = 5
ACKNOWLEDGED_SECONDS = 30.0
REST_SECONDS = 0.05  # between two tries to reach a gateway that may be dead
MODELS = ("scripted/echo", "scripted/short")
WAITS = (0, 0, 0, 0, 1, 30)
MODES = ("auto", "sync", "async", "async")
DELETED = 0.05  # share of the acknowledged jobs that clients delete
CANCELLED, HALF = 0.05, 0.5  # share of the others that it cancels; half of those it tries anew
IN_DOUBT = "upstream_in_doubt"

# A lease of a second or two, so that on PostgreSQL the next process need not wait for half a
# minute; as many jobs at once as clients, so that uploads get their share of a small machine.
SETTINGS = {
    "JOBS__LEASE_SECONDS": "2",
    "JOBS__MAINTENANCE_INTERVAL_SECONDS": "0.5",
    "JOBS__MAX_CONCURRENT_JOBS": str(CLIENTS),
}


@dataclass
class Acknowledgements:
    """The acknowledged requests, which the gateway must not lose."""

    acknowledged: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)  # requested, with any answer
    answers: Counter[str] = field(default_factory=Counter)
    cut_off: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass
class Verdict:
    figures: dict[str, object]
    violations: list[str]

    def line(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.figures.items())


@dataclass
class Killing:
    """Rounds of load and SIGKILL on one set of data, and the checks at the end."""

    gateway: GatewayProcess
    seed: int
    longest_life_seconds: float
    told: Acknowledgements = field(default_factory=Acknowledgements)
    kills: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._pool = [recording(self._random) for _ in range(POOL)]

    async def round(self) -> None:
        """Start the gateway, load it, kill it."""
        self.gateway.spawn()
        if self._random.random() < START_KILLED:
            await asyncio.sleep(self._random.uniform(0, START_TAKES_SECONDS))
        else:
            await asyncio.to_thread(self.gateway.wait_until_listening)
            clients = [asyncio.create_task(self._client(n)) for n in range(CLIENTS)]
            if self.kills % 2 == 0:
                await self._some_acknowledged(self._random.randint(1, MOST_AWAITED))
            await asyncio.sleep(self._random.uniform(0, self.longest_life_seconds))
            self.gateway.kill()
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
        self.gateway.kill()
        self.kills += 1

    async def _some_acknowledged(self, count: int) -> None:
        """Wait for this number of acknowledgements, because a slow machine may have none."""
        enough = len(self.told.acknowledged) + count
        deadline = time.monotonic() + ACKNOWLEDGED_SECONDS
        while len(self.told.acknowledged) < enough and time.monotonic() < deadline:
            await asyncio.sleep(REST_SECONDS)

    async def judge(self, seconds: float) -> Verdict:
        """Start once more, wait until all jobs have ended, and check the records."""
        await asyncio.to_thread(self.gateway.start)
        async with httpx.AsyncClient(base_url=self.gateway.url, timeout=30) as client:
            ended_after = await self.all_ended(client, seconds)
            lost = [said async for said in self.unkept(client)]
        code = await asyncio.to_thread(self.gateway.stop)
        records = JobRecords(await read_rows(self.gateway.database_url))
        return Verdict(
            self.figures(records, lost, ended_after),
            [*lost, *self.told.wrong, *self.broken(records, code)],
        )

    def broken(self, records: JobRecords, code: int) -> Iterator[str]:
        """Yield a sentence for each invariant violated at the end."""
        if code != 0:
            yield f"the last process ended with {code}"
        address = sa.make_url(self.gateway.database_url)
        if address.get_backend_name() == "sqlite":
            yield from sqlite_violations(Path(address.database or ""))
        yield from records.violations()
        yield from records.bill_violations(self.billed_seconds())
        yield from records.blob_violations(self.blobs)
        yield from (f"failed with {code}" for code in records.failures if code != IN_DOUBT)

    async def all_ended(self, client: httpx.AsyncClient, seconds: float) -> float:
        """Wait until no job is open. Return the seconds."""
        started = time.monotonic()
        await _until_nothing_is_open(client, seconds)
        return time.monotonic() - started

    async def unkept(self, client: httpx.AsyncClient) -> AsyncIterator[str]:
        """Yield a sentence for each acknowledged job that is missing or has not ended."""
        async for said in _unkept(client, self.told):
            yield said

    def billed_seconds(self) -> int:
        return self.gateway.billed_seconds()

    @property
    def blobs(self) -> Path:
        return self.gateway.data_dir / "audio" / "blobs"

    def figures(
        self, records: JobRecords, lost: list[str], ended_after: float
    ) -> dict[str, object]:
        """Return the figures of a run as text."""
        return {
            "kills": self.kills,
            "acknowledged": len(self.told.acknowledged),
            "cut off": self.told.cut_off,
            "lost": len(lost),
            "jobs": len(records.rows["transcription"]),
            **dict(records.statuses),
            "failed in doubt": records.failures[IN_DOUBT],
            "calls": len(records.rows["upstream_call"]),
            "calls in doubt": len(records.in_doubt),
            "billed s": self.billed_seconds(),
            "settled s": round(records.settled_seconds),
            "in doubt s": records.in_doubt_seconds,
            "orphan files": records.orphans(self.blobs),
            "all ended after s": round(ended_after, 1),
            "answers": dict(self.told.answers),
        }

    async def _client(self, number: int) -> None:
        """Send requests as a client, one after the other, until cancelled."""
        chance = random.Random(f"{self.seed}-{self.kills}-{number}")
        async with httpx.AsyncClient(base_url=self.gateway.url, timeout=60) as client:
            while True:
                try:
                    await self.act(client, chance)
                except (httpx.TransportError, asyncio.CancelledError) as end:
                    self.told.cut_off += 1
                    if isinstance(end, asyncio.CancelledError):
                        raise
                    await asyncio.sleep(REST_SECONDS)

    async def act(self, client: httpx.AsyncClient, chance: random.Random) -> None:
        """Send one recording, and at random delete its transcription."""
        sound = chance.choice(self._pool) if chance.random() < 0.5 else recording(chance)
        wish = {
            "model": chance.choice(MODELS),
            "wait": str(chance.choice(WAITS)),
            "mode": chance.choice(MODES),
            "priority": str(chance.randint(-1, 1)),
        }
        answer = await client.post(
            "/v1/transcriptions", files={"file": ("a.wav", sound)}, data=wish
        )
        body = answer.json()
        self.told.answers[f"{answer.status_code} {body.get('code', body.get('status'))}"] += 1
        if answer.is_success:
            self.told.acknowledged.add(body["id"])
            if chance.random() < DELETED:
                gone = await client.delete(f"/v1/transcriptions/{body['id']}")
                if gone.status_code == httpx.codes.NO_CONTENT:
                    self.told.deleted.add(body["id"])
                else:
                    self.told.wrong.append(f"DELETE answered {gone.status_code}: {gone.text}")
            elif chance.random() < CANCELLED:
                await self._steer(client, body["id"], tries_anew=chance.random() < HALF)
        elif answer.is_server_error and body["code"] != IN_DOUBT:
            self.told.wrong.append(f"POST answered {answer.status_code}: {answer.text}")

    async def _steer(self, client: httpx.AsyncClient, job_id: str, *, tries_anew: bool) -> None:
        """Cancel a job, and at random retry it."""
        self.told.cancelled.add(job_id)
        for action in ("cancel", "retry") if tries_anew else ("cancel",):
            answer = await client.post(f"/v1/transcriptions/{job_id}/{action}")
            self.told.answers[f"{action} {answer.status_code}"] += 1
            if not answer.is_success and answer.status_code != httpx.codes.CONFLICT:
                self.told.wrong.append(f"{action} answered {answer.status_code}: {answer.text}")


async def _until_nothing_is_open(client: httpx.AsyncClient, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        for status in ("queued", "processing", "queued"):
            query = {"status": status, "limit": "1"}
            while (await client.get("/v1/transcriptions", params=query)).json()["items"]:
                await asyncio.sleep(REST_SECONDS)


async def _unkept(client: httpx.AsyncClient, told: Acknowledgements) -> AsyncIterator[str]:
    """Yield a sentence for each acknowledged job that is missing or has not ended."""
    ends = {"completed", "failed"}
    for job_id in sorted(told.acknowledged):
        answer = await client.get(f"/v1/transcriptions/{job_id}")
        if job_id in told.deleted:
            if answer.status_code != httpx.codes.GONE:
                yield f"{job_id} was deleted and answers {answer.status_code}"
        elif answer.is_success:
            may_be = ends | ({"cancelled"} if job_id in told.cancelled else set())
            if answer.json()["status"] not in may_be:
                yield f"{job_id} is {answer.json()['status']}"
        elif answer.status_code != httpx.codes.GONE:  # a delete with a lost answer
            yield f"{job_id} was acknowledged and answers {answer.status_code}"


def recording(chance: random.Random) -> bytes:
    """Return a WAV of real speech with unique bytes, 1 to 20 s long."""
    speech = _speech()
    samples = int(chance.uniform(SHORTEST_SECONDS, LONGEST_SECONDS) * RATE)
    start = chance.randrange(len(speech) // 2) * 2
    sound = (speech[start:] + speech * 2)[: samples * 2]
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(sound)
    return target.getvalue()


@cache
def _speech() -> bytes:
    with wave.open(str(SPEECH), "rb") as file:
        return file.readframes(file.getnframes())
