"""Invariants of jobs, calls and ledger, checked on the rows of a database without code of `app`.

Nothing here uses the sums of `app`. A job's invariant (held = settled + released) applies to each
retry epoch. `adjust` entries come later, from the bill, and are not part of it.
"""

import hashlib
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app.db.connect import make_database
from app.jobs.tables import OPEN, metadata

TABLES = ("transcription", "part", "upstream_call", "ledger_line", "event", "transcript", "audio")
MILLIS = 1000
WORD = "heard"  # the scripted engine's answer for each part
ROUNDED_MS = 1  # parts end on a whole millisecond below the end of the sound, or on it
COUNTED = ("settle", "adjust")  # the cost of a call in the bill
SHOWN = 3
IN_DOUBT_A_PART = 2  # the first loss is tried again, the second ends the job

Rows = dict[str, list[dict[str, Any]]]


def snapshot(tx: sa.Connection) -> Rows:
    """Return every row of the tables of jobs, in the order of their keys."""
    tables = [metadata.tables[name] for name in TABLES]
    return {
        table.name: [
            dict(row)
            for row in tx.execute(sa.select(table).order_by(*table.primary_key)).mappings()
        ]
        for table in tables
    }


async def read_rows(url: str) -> Rows:
    """Return `snapshot` of the database at `url`."""
    db = make_database(url)
    await db.open()
    try:
        return await db.read(snapshot)
    finally:
        await db.close()


def sqlite_violations(file: Path) -> Iterator[str]:
    """Yield the problems that SQLite's integrity check reports."""
    connection = sqlite3.connect(file)
    try:
        found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        yield from (f"integrity: {words}" for words in found if words != "ok")
        broken = connection.execute("PRAGMA foreign_key_check").fetchall()
        yield from (f"foreign key: {row}" for row in broken)
    finally:
        connection.close()


@dataclass
class JobRecords:
    """Rows of a gateway whose jobs have all ended, and figures about them.

    With an `engine` the figures about money and doubt are of its calls only, because each engine
    has a bill of its own. `word` is the text of each part, where it is known.
    """

    rows: Rows
    engine: str | None = None
    word: str | None = WORD
    by_job: dict[str, dict[str, list[dict[str, Any]]]] = field(init=False)

    def __post_init__(self) -> None:
        self.by_job = {name: defaultdict(list) for name in TABLES}
        for name in ("part", "upstream_call", "ledger_line", "event", "transcript"):
            for row in self.rows[name]:
                self.by_job[name][row["transcription_id"]].append(row)

    @property
    def statuses(self) -> Counter[str]:
        return Counter(job["status"] for job in self.rows["transcription"])

    @property
    def failures(self) -> Counter[str]:
        return Counter(job["error"]["code"] for job in self.rows["transcription"] if job["error"])

    @property
    def calls(self) -> list[dict[str, Any]]:
        calls = self.rows["upstream_call"]
        return [call for call in calls if self.engine in {None, call["engine"]}]

    @property
    def settled_seconds(self) -> float:
        calls = {call["id"] for call in self.calls}
        lines = (line for line in self.rows["ledger_line"] if line["kind"] == "settle")
        return sum(line["used_ms"] for line in lines if line["call_id"] in calls) / MILLIS

    @property
    def in_doubt(self) -> list[dict[str, Any]]:
        return [call for call in self.calls if call["state"] == "in_doubt"]

    @property
    def in_doubt_seconds(self) -> int:
        return sum(-(-call["audio_ms"] // MILLIS) for call in self.in_doubt)

    def nano_by_request(self) -> Counter[str]:
        """Return the cost of each call that cost anything, by the provider's request id."""
        ids = {call["id"]: call["request_id"] for call in self.calls}
        sums: Counter[str] = Counter()
        for line in self.rows["ledger_line"]:
            if line["kind"] in COUNTED and line["call_id"] in ids and line["nano"]:
                sums[ids[line["call_id"]] or f"{line['call_id']} without an id"] += line["nano"]
        return sums

    def violations(self) -> Iterator[str]:
        """Yield a sentence for each violated invariant."""
        for job in self.rows["transcription"]:
            for complaint in self._of_job(job):
                yield f"{job['id']} ({job['status']}): {complaint}"

    def _of_job(self, job: dict[str, Any]) -> Iterator[str]:
        if job["status"] in OPEN:
            yield "has not ended"
            return
        mine = {name: self.by_job[name][job["id"]] for name in TABLES}
        yield from _money(mine["ledger_line"], mine["upstream_call"])
        lives = {line["retry_epoch"] for line in mine["ledger_line"]}
        yield from _calls(mine["upstream_call"], lives)
        if job["erased_at"] is None:
            yield from _events(job, mine["event"])
            yield from _words(job, mine["part"], mine["transcript"], self.word)
        elif mine["event"] or mine["transcript"]:
            yield "was erased and still has words or events"

    def bill_violations(self, billed_seconds: int) -> Iterator[str]:
        """Compare with the engine's own bill: settled <= bill <= settled + in doubt."""
        settled, doubt = self.settled_seconds, self.in_doubt_seconds
        if not settled <= billed_seconds <= settled + doubt:
            yield f"billed {billed_seconds} s, settled {settled} s, in doubt {doubt} s"

    def equality_violations(self, billed_nano: Mapping[str, int]) -> Iterator[str]:
        """Compare each call with its line of the bill, by request id. Both must be equal."""
        ours = self.nano_by_request()
        differing = sorted(
            name for name in ours | billed_nano if ours[name] != billed_nano.get(name, 0)
        )
        for name in differing[:SHOWN]:
            yield f"request {name}: ours {ours[name]}, billed {billed_nano.get(name, 0)} nano"
        if ours.total() != sum(billed_nano.values()):
            yield f"ours {ours.total()} nano, the bill {sum(billed_nano.values())}"

    def blob_violations(self, blobs: Path) -> Iterator[str]:
        """Compare each live audio with its file. No file of an erased audio may exist."""
        for audio in self.rows["audio"]:
            path = blobs / audio["blob_key"]
            if audio["erased_at"] is not None:
                if path.exists():
                    yield f"{audio['id']} was erased and its bytes are there"
            elif not path.exists():
                yield f"{audio['id']} has lost its bytes"
            elif hashlib.sha256(path.read_bytes()).hexdigest() != audio["sha256"]:
                yield f"{audio['id']} has other bytes than were received"

    def orphans(self, blobs: Path) -> int:
        """Count stored files without an audio."""
        named = {audio["blob_key"] for audio in self.rows["audio"]}
        files = (path for path in blobs.rglob("*") if path.is_file())
        return sum(str(path.relative_to(blobs)) not in named for path in files)


def _money(lines: list[dict[str, Any]], calls: list[dict[str, Any]]) -> Iterator[str]:
    for retry_epoch in {line["retry_epoch"] for line in lines if line["kind"] != "adjust"}:
        yield from _retry_epoch_violations(
            [line for line in lines if line["retry_epoch"] == retry_epoch]
        )
    known = {call["id"] for call in calls}
    if any(line["kind"] == "adjust" and line["call_id"] not in known for line in lines):
        yield "has an adjustment of no call of its own"
    settles = Counter(line["call_id"] for line in lines if line["kind"] == "settle")
    # A failed call costs money only where the provider bills it; one in doubt is on the bill.
    charged = {
        call["id"]
        for call in calls
        if call["state"] == "answered" or (call["state"] == "failed" and call["billed"] == "yes")
    }
    if settles != Counter(dict.fromkeys(charged, 1)):
        yield f"{len(charged)} calls answered or billed, settles {dict(settles)}"


def _retry_epoch_violations(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Check one retry epoch. A retried job has several."""
    sums: Counter[str] = Counter()
    for line in lines:
        sums[line["kind"]] += line["nano"]
    if sums["release"] != max(0, sums["hold"] - sums["settle"]):
        yield f"holds {sums['hold']}, settles {sums['settle']}, released {sums['release']}"
    if Counter(line["kind"] for line in lines)["release"] != 1:
        yield "was not released exactly once"


def _calls(calls: list[dict[str, Any]], lives: set[int]) -> Iterator[str]:
    if any(call["state"] == "open" for call in calls):
        yield "has ended with an open call"
    answered = Counter(call["part_idx"] for call in calls if call["state"] == "answered")
    doubted = Counter(
        (
            call["part_idx"],
            max(retry_epoch for retry_epoch in lives if retry_epoch < call["run_epoch"]),
        )
        for call in calls
        if call["state"] == "in_doubt"
    )
    if any(times > 1 for times in answered.values()):
        yield "has a part that was answered twice"
    if any(times > IN_DOUBT_A_PART for times in doubted.values()):
        yield "has a part that was in doubt more than twice in one life"


def _events(job: dict[str, Any], events: list[dict[str, Any]]) -> Iterator[str]:
    numbers = [event["seq"] for event in events]
    if numbers != list(range(1, job["event_count"] + 1)):
        yield f"{job['event_count']} events are numbered {numbers}"
    last = events[-1]["type"] if events else None
    if job["status"] in {"completed", "failed"} and last != job["status"]:
        yield f"its last event is {last}"


def _words(
    job: dict[str, Any],
    parts: list[dict[str, Any]],
    transcripts: list[dict[str, Any]],
    word: str | None,
) -> Iterator[str]:
    # One that was tried anew in vain keeps the words of the time before.
    allowed = {1} if job["status"] == "completed" else {0, 1} if job["retry_epoch"] else {0}
    if len(transcripts) not in allowed:
        yield f"has {len(transcripts)} transcripts"
        return
    chain = [0, *(part["end_ms"] for part in parts)]
    if [part["start_ms"] for part in parts] != chain[:-1]:
        yield "its parts have gaps"
    if job["status"] != "completed":
        return
    states = Counter(part["state"] for part in parts)
    short_ms = job["done_ms"] - chain[-1]
    if states["pending"] or states["failed"] or short_ms not in {0, ROUNDED_MS}:
        yield f"is completed with parts {dict(states)} up to {chain[-1]} of {job['done_ms']} ms"
    if word and transcripts[0]["text"].split().count(word) != states["done"]:
        yield f"has {states['done']} parts done and says {transcripts[0]['text']!r}"
