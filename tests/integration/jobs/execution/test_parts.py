"""Jobs of several parts: concurrent calls, commits one by one, gaps and repetitions.

Covers: app.audio.decoding.decode, app.jobs.execution.decoded, app.jobs.execution.job_run,
app.jobs.execution.loop_repair, app.jobs.store.parts, app.jobs.worker.queue
"""

import asyncio
import hashlib
import io
import wave
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.audio.decoding.decode import PcmDecoding
from app.errors import InternalError
from app.jobs.execution import decoded
from app.jobs.execution.job_run import PartRun
from app.jobs.tables import event, part, transcription, upstream_call
from app.jobs.worker import queue
from app.speech.engine import DeltaSink, EngineAnswer, EngineError, EngineRequest, ErrorKind
from tests.support.gateway import Gateway, running, settings_for, speech
from tests.support.scripted_engine import ScriptedEngine, billed_seconds

pytestmark = pytest.mark.anyio
SHORT = "scripted/short"  # parts of at most four seconds
LOOP = "thank you so much " * 30
TIMEOUT_SECONDS = 30
RATE = 16_000
REJECTED = EngineError(ErrorKind.REJECTED, "not this one")
ACCOUNT = EngineError(ErrorKind.ACCOUNT, "in arrears")
IN_VAIN = EngineError(ErrorKind.MALFORMED, "no JSON", retryable=True)

Says = Callable[[EngineRequest], "str | EngineError"]


@dataclass
class ScriptedParts(ScriptedEngine):
    """Answers each part by the function `says`; `most` is the highest number of calls at once.

    An error is raised once so many calls as `rejects_after` were made at once.
    """

    says: Says = lambda _request: "heard"
    rejects_after: int = 1
    now: int = 0
    most: int = 0
    times: Counter[str] = field(default_factory=Counter)

    async def transcribe(
        self, request: EngineRequest, on_delta: DeltaSink | None = None
    ) -> EngineAnswer:
        self.now += 1
        self.most = max(self.most, self.now)
        self.times[sha_of(request)] += 1
        try:
            said = self.says(request)
            if isinstance(said, EngineError):
                await asyncio.sleep(0)
                while self.most < self.rejects_after:
                    await asyncio.sleep(0.005)
                raise said
            self.text = said
            answer = await super().transcribe(request, on_delta)
            return EngineAnswer(said, "en", usage=answer.usage, raw={"text": said})
        finally:
            self.now -= 1


def sha_of(request: EngineRequest) -> str:
    return hashlib.sha256(request.audio.data).hexdigest()


@pytest.fixture
def engine(tmp_path: Path) -> ScriptedParts:
    return ScriptedParts(bill=tmp_path / "bill.jsonl")


@pytest.fixture
async def gateway(
    database_url: str, engine: ScriptedParts, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Gateway]:
    marker = request.node.get_closest_marker("settings")
    domains: dict[str, Any] = dict(marker.kwargs) if marker else {}
    async with running(settings_for(database_url, tmp_path / "data", **domains), engine) as made:
        yield made


@pytest.fixture(scope="module")
def sound() -> bytes:
    """Return audio of four parts: speech, a pause, speech, and a longer pause each."""
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        for start in (0.5, 2.5, 4.0, 6.0):
            file.writeframes(spoken(start, 1.2) + bytes(2 * RATE * 4 // 10))
            file.writeframes(spoken(start + 1.2, 1.2) + bytes(2 * RATE))
    return made.getvalue()


def spoken(start: float, seconds: float) -> bytes:
    with wave.open(io.BytesIO(speech(seconds, start=start))) as file:
        return file.readframes(file.getnframes())


async def sent(gateway: Gateway, sound: bytes, **options: str) -> dict[str, Any]:
    answer = await gateway.send(sound, model=SHORT, wait="0", **options)
    assert answer.status_code == 202, answer.text
    job = await gateway.ended(answer.json()["id"])
    check_events(job, await events_of(gateway, job))
    return job


async def events_of(gateway: Gateway, job: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    rows = await gateway.rows(event, transcription_id=job["id"])
    return [(row["type"], row["data"]) for row in rows]


def check_events(job: dict[str, Any], events: list[tuple[str, dict[str, Any]]]) -> None:
    """Check the events of a job: segments in order, done seconds that never decrease."""
    segments = [data for kind, data in events if kind == "segment"]
    assert [segment["index"] for segment in segments] == list(range(len(segments)))
    ends = [0.0, *(segment["end"] for segment in segments)]
    assert all(one["start"] >= end for one, end in zip(segments, ends, strict=False))
    done = [data["done_seconds"] for kind, data in events if kind == "progress"]
    assert done == sorted(done)
    if job["status"] == "completed":
        assert " ".join(one["text"] for one in segments if one["text"]) == job["text"]


async def shas(gateway: Gateway, sound: bytes) -> list[str]:
    """Return the hashes of the parts of audio, from a transcription of it."""
    job = await sent(gateway, sound)
    rows = await gateway.rows(part, transcription_id=job["id"])
    assert isinstance(gateway.engine, ScriptedParts)
    gateway.engine.times.clear()
    gateway.engine.most = 0
    found = [row["pcm_sha256"] for row in rows if row["pcm_sha256"]]
    assert len(found) == 4
    return found


# ── at once ─────────────────────────────────────────────────────────────────────────────────


async def test_parts_are_sent_while_later_audio_is_decoded(
    gateway: Gateway, engine: ScriptedParts, sound: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers wait until all audio is decoded, and its end is decoded after two parts are sent."""
    engine.gate = asyncio.Event()
    blocks = PcmDecoding.blocks

    async def held_back(decoding: PcmDecoding) -> AsyncIterator[bytes]:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            async for block in blocks(decoding):
                yield block
                while engine.most < 2:
                    await asyncio.sleep(0.01)
        engine.gate.set()

    monkeypatch.setattr(PcmDecoding, "blocks", held_back)
    job = await sent(gateway, sound)
    assert (job["status"], job["coverage"]) == ("completed", 1.0)


@pytest.mark.settings(jobs={"max_concurrent_parts": 2})
async def test_max_concurrent_parts_limits_the_calls_in_flight(
    gateway: Gateway, engine: ScriptedParts, sound: bytes
) -> None:
    engine.delay_seconds = 0.05
    await sent(gateway, sound)
    assert engine.most == 2


async def test_the_engines_concurrency_limits_the_calls_in_flight(
    gateway: Gateway, engine: ScriptedParts, sound: bytes
) -> None:
    engine.max_concurrent_calls, engine.delay_seconds = 1, 0.05
    await sent(gateway, sound)
    assert engine.most == 1


@pytest.mark.settings(jobs={"audio_buffer_bytes": 1})
async def test_jobs_complete_with_a_tiny_audio_budget(
    gateway: Gateway, engine: ScriptedParts, sound: bytes
) -> None:
    engine.delay_seconds = 0.05
    jobs = await asyncio.gather(*(sent(gateway, sound, reference=str(n)) for n in range(3)))
    assert [job["status"] for job in jobs] == ["completed"] * 3
    assert engine.most <= 3


async def test_a_decoded_job_of_one_part_is_three_commits(
    gateway: Gateway, recording: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    works: list[str] = []
    db = gateway.services.db
    verb = "write_then" if db.is_shared else "write"
    write = getattr(db, verb)

    async def noted(*args: Any, **kwargs: Any) -> Any:
        work = args[1 if db.is_shared else 0]
        if work is not queue.prune_log:
            works.append(work.__name__)
        return await write(*args, **kwargs)

    monkeypatch.setattr(db, verb, noted)
    assert (await gateway.send(recording)).status_code == 200
    assert works == ["create_job", "open_call", "commit_part"]


# ── a part that cannot be heard ─────────────────────────────────────────────────────────────


async def test_on_gap_keep_completes_a_job_with_a_gap(
    gateway: Gateway, engine: ScriptedParts, sound: bytes
) -> None:
    bad = (await shas(gateway, sound))[1]
    engine.says = lambda request: REJECTED if sha_of(request) == bad else "heard"
    job = await sent(gateway, sound, on_gap="keep")
    rows = await gateway.rows(part, transcription_id=job["id"])
    (gap,) = [row for row in rows if row["state"] == "gap"]
    (warning,) = job["warnings"]
    assert (job["status"], gap["error_code"]) == ("completed", "engine_refused")
    spoken = sum(row["speech_ms"] for row in rows)
    assert job["coverage"] == pytest.approx(1 - gap["speech_ms"] / spoken)
    assert (warning["code"], warning["start"], warning["end"]) == (
        "gap",
        gap["start_ms"] / 1000,
        gap["end_ms"] / 1000,
    )
    assert "engine_refused" in warning["detail"]
    told = [data for kind, data in await events_of(gateway, job) if kind == "segment"]
    assert [one.get("gap", False) for one in told] == [
        row["state"] == "gap" for row in rows if row["state"] != "silent"
    ]


async def test_a_retry_fills_a_gap_and_publishes_the_segments_from_there_again(
    gateway: Gateway, engine: ScriptedParts, sound: bytes
) -> None:
    known = await shas(gateway, sound)
    engine.says = lambda request: REJECTED if sha_of(request) == known[1] else "heard"
    job = await sent(gateway, sound, on_gap="keep")
    engine.says = lambda request: "mended" if sha_of(request) == known[1] else "heard"
    calls = len(engine.calls)
    response = await gateway.client.post(f"/v1/transcriptions/{job['id']}/retry")
    assert response.status_code == 202, response.text
    again = await gateway.ended(job["id"])
    assert (again["status"], again["coverage"], again["warnings"]) == ("completed", 1.0, [])
    assert again["text"].split().count("mended") == 1
    assert len(engine.calls) == calls + 1
    events = await events_of(gateway, job)
    reset = next(number for number, (kind, _) in enumerate(events) if kind == "reset")
    assert events[reset] == ("reset", {"from": 1})
    retold = [data["index"] for kind, data in events[reset:] if kind == "segment"]
    assert retold == list(range(1, len(known)))


@pytest.mark.settings(jobs={"retry_timeout_seconds": 0})
async def test_on_gap_fail_fails_the_job_and_keeps_the_finished_parts(
    gateway: Gateway, engine: ScriptedParts, sound: bytes
) -> None:
    bad = (await shas(gateway, sound))[0]
    engine.says = lambda request: REJECTED if sha_of(request) == bad else "heard"
    engine.delay_seconds, engine.rejects_after = 0.1, 2
    before = billed_seconds(engine.bill or Path())
    job = await sent(gateway, sound)
    rows = await gateway.rows(part, transcription_id=job["id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "engine_refused")
    assert rows[0]["state"] == "pending"
    assert "done" in {row["state"] for row in rows}
    assert job["usage"]["seconds"] == billed_seconds(engine.bill or Path()) - before


@pytest.mark.parametrize("options", [{"on_gap": "keep"}, {"on_gap": "fail"}])
async def test_a_job_whose_parts_are_all_gaps_fails(
    gateway: Gateway, engine: ScriptedParts, sound: bytes, options: dict[str, str]
) -> None:
    engine.says = lambda _request: REJECTED
    job = await sent(gateway, sound, **options)
    assert (job["status"], job["error"]["code"]) == ("failed", "engine_refused")


async def test_an_account_error_fails_the_job_and_is_no_gap(
    gateway: Gateway, engine: ScriptedParts, sound: bytes
) -> None:
    bad = (await shas(gateway, sound))[1]
    engine.says = lambda request: ACCOUNT if sha_of(request) == bad else "heard"
    job = await sent(gateway, sound, on_gap="keep")
    assert (job["status"], job["error"]["code"]) == ("failed", "engine_account")


async def test_a_part_that_fails_max_attempts_is_a_gap_and_only_it_is_retried(
    gateway: Gateway, engine: ScriptedParts, sound: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.upstream.retry_policy.LONGEST_PAUSE_SECONDS", 0.01)
    known = await shas(gateway, sound)
    engine.says = lambda request: IN_VAIN if sha_of(request) == known[-1] else "heard"
    job = await sent(gateway, sound, on_gap="keep")
    assert (job["status"], [one["code"] for one in job["warnings"]]) == ("completed", ["gap"])
    assert engine.times == {**dict.fromkeys(known, 1), known[-1]: 3}


# ── a part that comes back as a loop ────────────────────────────────────────────────────────


async def test_a_repeating_part_is_called_again_in_halves_with_a_warning(
    gateway: Gateway, engine: ScriptedParts, sound: bytes
) -> None:
    known = await shas(gateway, sound)
    engine.says = lambda one: (
        LOOP if sha_of(one) == known[1] else "whole" if sha_of(one) in known else "half"
    )
    before = billed_seconds(engine.bill or Path())
    job = await sent(gateway, sound, include="raw")
    rows = await gateway.rows(part, transcription_id=job["id"])
    (looped,) = [row for row in rows if row["pcm_sha256"] == known[1]]
    (warning,) = job["warnings"]
    assert job["text"].split().count("half") == 2
    assert "thank" not in job["text"]
    assert (warning["code"], warning["start"] * 1000) == ("repetition", looped["start_ms"])
    assert (looped["result"]["raw_text"], looped["partial_result"]) == (LOOP, None)
    calls = await gateway.rows(upstream_call, transcription_id=job["id"])
    halves = [call["audio_ms"] for call in calls if call["part_idx"] == looped["idx"]][1:]
    assert sum(halves) == looped["end_ms"] - looped["start_ms"]
    assert job["usage"]["seconds"] == billed_seconds(engine.bill or Path()) - before
    assert [answer["text"] for answer in job["raw"]].count(LOOP) == 1
    assert len(job["raw"]) == len(known) + 2
    inner = [one["start"] for one in job["segments"] if one["text"] == "half"]
    assert inner == [looped["start_ms"] / 1000, (looped["start_ms"] + halves[0]) / 1000]


async def test_where_the_halves_repeat_too_the_better_text_is_kept(
    gateway: Gateway, engine: ScriptedParts, sound: bytes
) -> None:
    known = await shas(gateway, sound)
    engine.says = lambda one: (
        LOOP if sha_of(one) == known[1] else "heard" if sha_of(one) in known else f"but {LOOP}"
    )
    job = await sent(gateway, sound)
    (warning,) = job["warnings"]
    rows = await gateway.rows(part, transcription_id=job["id"])
    (looped,) = [row for row in rows if row["pcm_sha256"] == known[1]]
    assert (job["status"], warning["code"], job["coverage"]) == ("completed", "repetition", 1.0)
    assert looped["result"]["text"] == f"but {LOOP}".strip() + f" but {LOOP}".rstrip()
    assert looped["result"]["raw_text"] == LOOP


async def test_a_half_that_fails_leaves_the_original_text(
    gateway: Gateway, engine: ScriptedParts, sound: bytes
) -> None:
    known = await shas(gateway, sound)
    engine.says = lambda one: (
        LOOP if sha_of(one) == known[1] else "heard" if sha_of(one) in known else REJECTED
    )
    job = await sent(gateway, sound)
    assert job["text"].startswith("heard thank you")
    assert [one["code"] for one in job["warnings"]] == ["repetition"]


@pytest.mark.parametrize("nth", [1, 2], ids=["for the cut", "for the halves"])
async def test_audio_that_cannot_be_decoded_again_leaves_the_original_text(
    gateway: Gateway, engine: ScriptedParts, sound: bytes, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """A paid answer is stored and settled even where its repair fails."""
    known = await shas(gateway, sound)
    engine.says = lambda one: LOOP if sha_of(one) == known[1] else "heard"
    decodings = 0

    class Fickle(PartRun):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            real = self.decode

            async def decode() -> bytes:
                nonlocal decodings
                decodings += 1
                if decodings == nth:
                    raise InternalError(log="no FLAC after 60 s")
                return await real()

            self.decode = decode

    monkeypatch.setattr(decoded, "PartRun", Fickle)
    job = await sent(gateway, sound)
    assert (job["status"], [one["code"] for one in job["warnings"]]) == (
        "completed",
        ["repetition"],
    )
    assert job["text"].startswith("heard thank you")
    calls = await gateway.rows(upstream_call, transcription_id=job["id"])
    assert [call["state"] for call in calls] == ["answered"] * len(known)


async def test_a_restarted_run_repeats_no_paid_call(
    gateway: Gateway, engine: ScriptedParts, sound: bytes
) -> None:
    """The first run is released after the repeating answer and one half were stored."""
    known = await shas(gateway, sound)
    halves: list[str] = []

    def held_at_the_second(one: EngineRequest) -> "str | EngineError":
        if sha_of(one) not in known:
            halves.append(sha_of(one))
            if len(halves) == 2:
                return EngineError(
                    ErrorKind.UNAVAILABLE, "down", retryable=True, retry_after=3_600.0
                )
        return LOOP if sha_of(one) == known[1] else "heard" if sha_of(one) in known else "half"

    engine.says = held_at_the_second
    answer = await gateway.send(sound, model=SHORT, wait="0")
    job_id = answer.json()["id"]
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not (await gateway.rows(transcription, id=job_id))[0]["deferred_since"]:
            await asyncio.sleep(0.01)
    paid = dict(engine.times)
    (row,) = [
        one for one in await gateway.rows(part, transcription_id=job_id) if one["partial_result"]
    ]
    assert len(row["partial_result"]["halves"]) == 1
    transcriber = gateway.services.worker._transcriber
    await gateway.services.db.write(
        lambda tx: tx.execute(transcription.update().values(lease_until=None))
    )
    assert await transcriber.advance(job_id) is None
    job = (await gateway.get(f"/v1/transcriptions/{job_id}")).json()
    assert job["status"] == "completed"
    assert job["text"].split().count("half") == 2
    assert {sha: engine.times[sha] for sha in paid} == {**paid, halves[1]: 2}
    assert all(engine.times[sha] == 1 for sha in engine.times if sha not in paid)
    check_events(job, await events_of(gateway, job))
