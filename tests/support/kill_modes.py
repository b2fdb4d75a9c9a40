"""SIGKILL at random moments while jobs of every mode run; afterwards all records are checked.

Each second of the audio contains a number, so that a second that was lost, repeated or paid twice
is found. The simulator is not killed, and keeps its own bill.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx

from tests.simulator import Delays, ProviderSimulator
from tests.simulator.answers import Pace
from tests.simulator.counting import Second, encode, joined, read
from tests.support.gateway import NANO_PER_SECOND
from tests.support.job_records import JobRecords, read_rows
from tests.support.kill import HALF, IN_DOUBT, Killing, Verdict
from tests.support.mixed import EXPLAINED, reconciled
from tests.support.process import GatewayProcess
from tests.support.resumed_stream import END, ResumedStream
from tests.support.simulated_gateway import fast_catalogue

SERVE = ("-m", "app.cli.main", "serve")
MODEL, SPLIT, TASKS = "qwen3-asr-flash", "kill/split", "qwen3-asr-flash-filetrans"
MODES = ("sync", "async", "stream", "split", "split-stream", "task")
PART_SECONDS = 12
SPLIT_MODEL = f"""
[models."{SPLIT}"]
engine = "dashscope"
upstream_model = "qwen3-asr-flash-2026-02-10"
wire = "qwen3"
title = "Short parts, so that many of them die"
part_seconds = {PART_SECONDS}
languages = "qwen3"
options = ["language", "context"]
calls_per_minute = 6000
source = "made up"
checked = 2026-11-21

[[models."{SPLIT}".prices]]
region = "cn-beijing"
unit = "second"
amount = "0.00022"
currency = "CNY"
valid_from = 2026-01-01
source = "made up"
"""
PAUSE_EVERY = 5
POOL = 40  # recordings in memory; numbers below a thousand
LATENCY_SECONDS = 0.15
CANCELLED, DELETED, RETRIED = 0.1, 0.04, 0.1  # shares of a client's actions
LISTENS_AGAIN = 0.3
LISTENS_SECONDS = 60.0
SETTINGS = {
    "JOBS__LEASE_SECONDS": "2",
    "JOBS__MAINTENANCE_INTERVAL_SECONDS": "0.5",
    "JOBS__MAX_CONCURRENT_JOBS": "8",
    "SPEECH__DEFAULT_MODEL": MODEL,
    "LOCAL__ENABLED": "false",
}


def kill_simulator(seed: int) -> ProviderSimulator:
    """Return a simulator of counting audio with delays and without faults."""
    delays = Delays(pending=(0.05, 0.6), running=(0.05, 0.8))
    pace = Pace(0.02)
    return ProviderSimulator(seed=seed, delays=delays, latency_seconds=LATENCY_SECONDS, pace=pace)


def a_gateway(folder: Path, database_url: str, simulator: ProviderSimulator) -> GatewayProcess:
    """Return a gateway with default settings, except for leases and the account's rate limit."""
    settings = {
        **SETTINGS,
        "SPEECH__CATALOGUE": str(fast_catalogue(folder, models=SPLIT_MODEL)),
        "DASHSCOPE__API_KEY": simulator.key,
        "DASHSCOPE__BASE_URL": f"{simulator.url}/api/v1",
    }
    return GatewayProcess(folder, database_url, settings=settings, command=SERVE)


@dataclass
class ModesKilling(Killing):
    """Rounds of load in every mode. `simulator` is the gateway's provider."""

    simulator: ProviderSimulator = field(kw_only=True)
    streams: list[ResumedStream] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    retried: int = 0

    async def act(self, client: httpx.AsyncClient, chance: random.Random) -> None:
        """Send a recording in a random mode, or cancel, retry or read an earlier one."""
        cut_off = [one for one in self.streams if one.job_id and not one.has_ended]
        if cut_off and chance.random() < LISTENS_AGAIN:
            await self._listen_again(client, chance.choice(cut_off))
        elif self.failed and chance.random() < RETRIED:
            await self._retry(client, chance.choice(sorted(self.failed)))
        else:
            await self._send(client, chance)

    async def _send(self, client: httpx.AsyncClient, chance: random.Random) -> None:
        mode = chance.choice(MODES)
        wish, sound = random_request(mode, chance)
        files = {"file": ("a.wav", sound)}
        if "stream" in mode:
            await self._send_and_listen(client, wish, files)
            return
        answer = await client.post("/v1/transcriptions", files=files, data=wish)
        job_id = self._took_in(mode, answer)
        if job_id and chance.random() < CANCELLED:
            await self._cancel(client, job_id)
            if chance.random() < HALF:
                await self._retry(client, job_id)
        elif job_id and chance.random() < DELETED:
            gone = await client.delete(f"/v1/transcriptions/{job_id}")
            self._expect(gone, httpx.codes.NO_CONTENT)
            self.told.deleted.add(job_id)

    def _took_in(self, mode: str, answer: httpx.Response) -> str | None:
        body = answer.json()
        said = body.get("code", body.get("status"))
        self.told.answers[f"{mode} {answer.status_code} {said}"] += 1
        if answer.is_success:
            self.told.acknowledged.add(body["id"])
            return str(body["id"])
        if body["code"] == IN_DOUBT:
            self.failed.add(body["transcription_id"])
        elif answer.is_server_error:
            self.told.wrong.append(f"POST answered {answer.status_code}: {answer.text}")
        return None

    async def _send_and_listen(
        self, client: httpx.AsyncClient, wish: dict[str, str], files: dict[str, tuple[str, bytes]]
    ) -> None:
        stream = ResumedStream()
        async with client.stream("POST", "/v1/transcriptions", files=files, data=wish) as answer:
            if not answer.is_success:
                await answer.aread()
                self._took_in("stream", answer)
                return
            stream.job_id = answer.headers["location"].rsplit("/", 1)[-1]
            self.told.acknowledged.add(stream.job_id)
            try:
                await stream.hear(answer)
            finally:
                self.streams.append(stream)  # from now on it may be read again
        self.told.answers[f"stream {stream.events[-1].name if stream.events else 'nothing'}"] += 1

    async def _listen_again(self, client: httpx.AsyncClient, stream: ResumedStream) -> None:
        if stream.job_id in self.told.deleted:
            return
        self.streams.remove(stream)  # no other client continues it meanwhile
        try:
            await stream.resume(client)
        finally:
            self.streams.append(stream)

    async def _cancel(self, client: httpx.AsyncClient, job_id: str) -> None:
        self.told.cancelled.add(job_id)  # even where its answer is cut off
        answer = await client.post(f"/v1/transcriptions/{job_id}/cancel")
        self.told.answers[f"cancel {answer.status_code}"] += 1
        self._expect(answer, httpx.codes.OK, httpx.codes.CONFLICT)

    async def _retry(self, client: httpx.AsyncClient, job_id: str) -> None:
        self.failed.discard(job_id)
        answer = await client.post(f"/v1/transcriptions/{job_id}/retry")
        self.told.answers[f"retry {answer.status_code}"] += 1
        self.retried += answer.is_success
        self._expect(answer, httpx.codes.OK, httpx.codes.ACCEPTED, httpx.codes.CONFLICT)

    def _expect(self, answer: httpx.Response, *codes: int) -> None:
        if answer.status_code not in codes:
            self.told.wrong.append(
                f"{answer.request.method} {answer.request.url.path} answered "
                f"{answer.status_code}: {answer.text}"
            )

    async def judge(self, seconds: float) -> Verdict:
        """Wait until all jobs have ended, check the records, read every stream, reconcile."""
        await asyncio.to_thread(self.gateway.start)
        async with httpx.AsyncClient(base_url=self.gateway.url, timeout=LISTENS_SECONDS) as client:
            ended_after = await self.all_ended(client, seconds)
            await self._retry_what_failed(client)
            await self.all_ended(client, seconds)
            lost = [said async for said in self.unkept(client)]
            misheard = [said async for said in self._misheard(client)]
        code = await asyncio.to_thread(self.gateway.stop)
        await self.simulator.tasks_ended()
        records = JobRecords(await read_rows(self.gateway.database_url), word=None)
        (self.gateway.folder / "bill.csv").write_text(self.simulator.bill.csv())
        violations = [*lost, *misheard, *self.told.wrong, *self.broken(records, code)]
        violations += [said async for said in self._unreconciled()]
        return Verdict(self.figures(records, lost, ended_after), violations)

    async def _retry_what_failed(self, client: httpx.AsyncClient) -> None:
        """Retry every job with a call in doubt. No process is killed any more."""
        query = {"status": "failed", "limit": "100"}
        while True:
            page = (await client.get("/v1/transcriptions", params=query)).json()
            for job in page["items"]:
                await self._retry(client, job["id"])
            if not page["items"]:
                return

    def billed_seconds(self) -> int:
        return self.simulator.bill.seconds()

    def broken(self, records: JobRecords, code: int) -> Iterator[str]:
        yield from super().broken(records, code)
        yield from (f"failed with {code} when tried anew" for code in records.failures)
        yield from broken_words(records)
        yield from self._broken_tasks(records)

    def _broken_tasks(self, records: JobRecords) -> Iterator[str]:
        """Check that no task is known twice, and that an unknown task has a call in doubt.

        A task with a known id is never submitted again: a job pays for two tasks only if the id of
        one was unknown.
        """
        calls = [call for call in records.rows["upstream_call"] if call["model"] == TASKS]
        known = [call["task_id"] for call in calls if call["task_id"]]
        if len(known) != len(set(known)):
            yield "a task is known by two calls"
        unknown = {task.id for task in self.simulator.tasks} - set(known)
        doubts = sum(call["state"] == "in_doubt" and not call["task_id"] for call in calls)
        if len(unknown) > doubts:
            yield f"{len(unknown)} tasks are in no row, {doubts} submits in doubt"
        yield from paid_twice(calls, {line.request_id for line in self.simulator.bill})

    async def _misheard(self, client: httpx.AsyncClient) -> AsyncIterator[str]:
        """Yield differences between resumed streams and one that is read from the beginning."""
        for stream in self.streams:
            if stream.job_id in self.told.deleted:
                continue
            await stream.resume(client)  # also behind a failure: it may have been tried anew
            whole = ResumedStream(stream.job_id)
            await whole.resume(client)
            if stream.standing != whole.rows:
                yield f"{stream.job_id}: heard {stream.rows}, there are {whole.rows}"
            elif sum(name in END for _, name in whole.rows) != 1:
                yield f"{stream.job_id}: ends other than once: {whole.rows}"
            elif stream.text != whole.text:
                yield f"{stream.job_id}: heard {stream.text!r}, it says {whole.text!r}"
            for said in stream.broken_deltas():
                yield f"{stream.job_id} {said}"

    async def _unreconciled(self) -> AsyncIterator[str]:
        folder, url = self.gateway.folder, self.gateway.database_url
        said = await asyncio.to_thread(reconciled, folder, url)
        odd = {one["kind"] for one in said["differences"]} - EXPLAINED
        if odd:
            yield f"the reconciliation found {sorted(odd)}"
        billed = {line.request_id: line.seconds * NANO_PER_SECOND for line in self.simulator.bill}
        for words in JobRecords(await read_rows(url)).equality_violations(billed):
            yield f"after the bill: {words}"

    def figures(
        self, records: JobRecords, lost: list[str], ended_after: float
    ) -> dict[str, object]:
        bill = self.simulator.bill
        return {
            **super().figures(records, lost, ended_after),
            "bill lost s": bill.seconds(answered=False),
            "tasks": len(self.simulator.tasks),
            "streams": len(self.streams),
            "retried": self.retried,
            "epochs": max((job["run_epoch"] for job in records.rows["transcription"]), default=0),
        }


def paid_twice(calls: Iterable[Mapping[str, Any]], billed: Collection[str]) -> Iterator[str]:
    """Yield a sentence for each job with two billed tasks that knew the first one's id."""
    by_job: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for call in calls:
        by_job[call["transcription_id"]].append(call)
    for job, mine in by_job.items():
        paid = sum(call["request_id"] in billed for call in mine)
        is_unknown = any(call["state"] == "in_doubt" and not call["task_id"] for call in mine)
        if paid > 1 and not is_unknown:
            yield f"{job} has paid for {paid} tasks"


def random_request(mode: str, chance: random.Random) -> tuple[dict[str, str], bytes]:
    """Return a random recording for a mode with its form fields. `reference` has its numbers."""
    is_split = mode.startswith("split")
    seconds = chance.choice((31, 44, 58)) if is_split else chance.choice((2, 3, 5, 8, 13))
    start = chance.randrange(POOL) * 10
    wish = {
        "model": SPLIT if is_split else TASKS if mode == "task" else MODEL,
        "mode": "stream" if "stream" in mode else "sync" if mode == "sync" else "async",
        "reference": f"{start}-{start + seconds}",
    }
    if mode == "sync":
        wish["wait"] = "30"
    return wish, counted(start, seconds)


@lru_cache(maxsize=256)
def counted(start: int, seconds: int) -> bytes:
    """Return counting audio that begins at `start`."""
    return encode(range(start, start + seconds), pause_every=PAUSE_EVERY)


def broken_words(records: JobRecords) -> Iterator[str]:
    """Yield a sentence for each completed job whose transcript has other seconds than its audio."""
    texts = {row["transcription_id"]: row["text"] for row in records.rows["transcript"]}
    for job in records.rows["transcription"]:
        if job["id"] in texts:
            first, end = map(int, job["reference"].split("-"))
            heard = joined(read(texts[job["id"]]))
            if heard != [Second(number) for number in range(first, end)]:
                yield f"{job['id']} was sent {job['reference']} and says {texts[job['id']]!r}"
