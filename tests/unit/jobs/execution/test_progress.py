"""The progress of a run: events of its parts in order, once each, and done seconds.

Covers: app.jobs.execution.commit_part, app.jobs.execution.progress
"""

import itertools
from collections.abc import Iterable
from typing import Any

import pytest

from app.billing.ledger import LedgerAccount
from app.billing.prices import Tariff
from app.jobs.execution.commit_part import PartOutcome
from app.jobs.execution.progress import Progress
from app.jobs.store.job import Job, KnownPart, Run
from app.jobs.store.job_spec import JobOptions
from app.jobs.store.parts import PartSpan, stored_result
from app.jobs.store.routes import Route
from tests.support.scenario import PLAN, answer

LENGTH_MS = 1_000


def span_at(index: int, *, speaks: bool = True) -> PartSpan:
    start = index * LENGTH_MS
    return PartSpan(index, start, start + LENGTH_MS, 900 * speaks, "0" * 64 if speaks else None)


def row(index: int, state: str) -> KnownPart:
    one = span_at(index, speaks=state != "silent")
    result = result_of(index) if state == "done" else None
    code = "engine_refused" if state == "gap" else None
    return KnownPart(index, one.start_ms, one.end_ms, one.speech_ms, state, result, None, code)


def result_of(index: int) -> dict[str, Any]:
    return stored_result(answer(text=f"text {index}"), "scripted")


def job(rows: Iterable[KnownPart] = (), seconds: float | None = None) -> Job:
    tariff = Tariff("test", "CNY", {"second": 1}, ())
    return Job(
        run=Run("tr_1", 1, 30.0),
        account=LedgerAccount("p", None, "tr_1", "m", "CNY"),
        routes=(Route("scripted", "echo", tariff),),
        deferred_since=None,
        blob_key="b",
        source_url=None,
        audio_format="wav",
        audio_sha256=None,
        duration_ms=None if seconds is None else round(seconds * 1000),
        options=JobOptions(),
        plan=PLAN,
        warnings=[],
        parts=list(rows),
        runs_without_progress=1,
    )


def outcome_of(index: int) -> PartOutcome:
    return PartOutcome(index, result_of(index))


def updated(progress: Progress) -> tuple[list[int], float]:
    """Take an update; return the numbers of its segments and the done seconds."""
    now = progress.take_update()
    return [one.data["index"] for one in now.segments], now.progress.data["done_seconds"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_segments_are_published_in_the_order_of_the_parts(order: tuple[int, ...]) -> None:
    progress = Progress(job())
    for index in range(4):
        assert progress.add_part(span_at(index))
    segments, done = [], [0.0]
    for index in order:
        progress.record(span_at(index), outcome_of(index))
        now_told, seconds = updated(progress)
        segments += now_told
        done.append(seconds)
        ready = next((n for n in range(4) if n not in order[: order.index(index) + 1]), 4)
        assert segments == list(range(ready))
    assert done == [0, 1, 2, 3, 4]


def test_a_silent_part_is_done_after_the_parts_before_it() -> None:
    progress = Progress(job())
    for index, speaks in enumerate((True, False, True, False)):
        progress.add_part(span_at(index, speaks=speaks))
    progress.record(span_at(2), outcome_of(2))
    assert updated(progress) == ([], 1.0)
    progress.record(span_at(0), outcome_of(0))
    assert updated(progress) == ([0, 1], 4.0)


def test_spans_before_a_part_are_stored_with_it_once() -> None:
    progress = Progress(job([row(0, "done")]))
    for index, speaks in enumerate((True, False, True, False)):
        progress.add_part(span_at(index, speaks=speaks))
    assert [one.index for one in progress.unstored(span_at(2))] == [1]
    progress.record(span_at(2), outcome_of(2))
    assert [one.index for one in progress.take_update().spans] == [1, 2, 3]
    progress.mark_stored(span_at(2))
    assert progress.unstored(span_at(2)) == []


@pytest.mark.parametrize(
    ("states", "again"),
    [
        ("done pending done", [1, 2]),
        ("done silent pending", [1]),
        ("pending done done", [0, 1, 2]),
        ("done gap done pending", [3]),
        ("silent silent pending", [0]),
    ],
)
def test_another_run_publishes_only_unpublished_segments(states: str, again: list[int]) -> None:
    rows = [row(index, state) for index, state in enumerate(states.split())]
    before = sum(one.end_ms - one.start_ms for one in rows if one.state in {"done", "gap"})
    progress = Progress(job(rows))
    to_send = [one.index for one in rows if progress.add_part(span_at(one.index))]
    assert to_send == [one.index for one in rows if one.state == "pending"]
    for index in to_send:
        progress.record(span_at(index), outcome_of(index))
    segments, seconds = updated(progress)
    assert segments == again
    assert seconds * 1000 == len(rows) * LENGTH_MS >= before


def test_done_seconds_include_those_of_an_earlier_run() -> None:
    rows = [row(0, "silent"), row(1, "pending"), row(2, "done"), row(3, "silent")]
    progress = Progress(job(rows, seconds=4))
    assert progress.take_update().progress.data == {"done_seconds": 2.0, "total_seconds": 4.0}


def test_at_the_end_the_decoded_length_is_done() -> None:
    progress = Progress(job(seconds=2.01))
    progress.add_part(span_at(0))
    progress.add_part(span_at(1))
    progress.record(span_at(0), outcome_of(0))
    assert progress.take_update().progress.data == {"done_seconds": 1.0, "total_seconds": 2.01}
    progress.is_cut = True
    progress.record(span_at(1), outcome_of(1))
    assert progress.take_update().progress.data == {"done_seconds": 2.0, "total_seconds": 2.0}


def test_the_stored_state_of_a_part_counts() -> None:
    progress = Progress(job([row(0, "done"), row(1, "silent"), row(2, "gap")]))
    assert not progress.add_part(span_at(0, speaks=False))
    assert not progress.add_part(span_at(1))
    assert not progress.add_part(span_at(2))
    assert [(text.text, text.done) for text in progress.texts] == [("text 0", True), ("", False)]


def test_is_complete_once_all_parts_have_finished() -> None:
    progress = Progress(job())
    for index in range(3):
        progress.add_part(span_at(index))
    progress.record(span_at(1), PartOutcome(1, error_code="engine_timeout"))
    progress.record(span_at(0), PartOutcome(0, error_code="engine_refused"))
    assert progress.failure_reason is not None
    assert progress.failure_reason.code == "engine_refused"
    progress.record(span_at(2), outcome_of(2))
    assert progress.failure_reason is None
    assert not progress.is_complete
    progress.is_cut = True
    assert progress.is_complete


def test_a_job_of_gaps_only_is_not_complete() -> None:
    progress = Progress(job())
    progress.add_part(span_at(0))
    progress.is_cut = True
    progress.record(span_at(0), PartOutcome(0, error_code="engine_refused"))
    assert not progress.is_complete


def test_warnings_of_gaps_and_repetitions_have_a_span_and_a_reason() -> None:
    progress = Progress(job())
    progress.add_part(span_at(0))
    progress.add_part(span_at(1))
    progress.record(span_at(1), PartOutcome(1, {**result_of(1), "repetition": "kept"}))
    progress.record(span_at(0), PartOutcome(0, error_code="engine_refused"))
    gap, loop = progress.completion({}).warnings
    assert (gap["code"], gap["start"], gap["end"]) == ("gap", 0.0, 1.0)
    assert "engine_refused" in gap["detail"]
    assert (loop["code"], loop["start"], loop["end"]) == ("repetition", 1.0, 2.0)
    first, second = progress.take_update().segments
    assert first[1] == {
        "index": 0,
        "start": 0.0,
        "end": 1.0,
        "text": "",
        "language": None,
        "emotion": None,
        "gap": True,
    }
    assert (second[1]["index"], second[1]["text"], second[1]["language"]) == (1, "text 1", "en")
