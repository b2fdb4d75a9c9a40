"""What is told of a recording's parts: in turn, once, and never backwards.

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


def stretch(index: int, *, speaks: bool = True) -> PartSpan:
    start = index * LENGTH_MS
    return PartSpan(index, start, start + LENGTH_MS, 900 * speaks, "0" * 64 if speaks else None)


def row(index: int, state: str) -> KnownPart:
    one = stretch(index, speaks=state != "silent")
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


def became(index: int) -> PartOutcome:
    return PartOutcome(index, result_of(index))


def told(progress: Progress) -> tuple[list[int], float]:
    """Return of which spoken parts is told, and how many seconds are done."""
    now = progress.take_update()
    return [one.data["index"] for one in now.segments], now.progress.data["done_seconds"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_segments_are_told_in_turn_whatever_the_order(order: tuple[int, ...]) -> None:
    progress = Progress(job())
    for index in range(4):
        assert progress.add_part(stretch(index))
    segments, done = [], [0.0]
    for index in order:
        progress.record(stretch(index), became(index))
        now_told, seconds = told(progress)
        segments += now_told
        done.append(seconds)
        ready = next((n for n in range(4) if n not in order[: order.index(index) + 1]), 4)
        assert segments == list(range(ready))
    assert done == [0, 1, 2, 3, 4]


def test_a_silent_stretch_is_done_when_its_turn_has_come() -> None:
    progress = Progress(job())
    for index, speaks in enumerate((True, False, True, False)):
        progress.add_part(stretch(index, speaks=speaks))
    progress.record(stretch(2), became(2))
    assert told(progress) == ([], 1.0)
    progress.record(stretch(0), became(0))
    assert told(progress) == ([0, 1], 4.0)


def test_what_has_passed_and_what_comes_before_a_part_is_stored_with_it_once() -> None:
    progress = Progress(job([row(0, "done")]))
    for index, speaks in enumerate((True, False, True, False)):
        progress.add_part(stretch(index, speaks=speaks))
    assert [one.index for one in progress.unstored(stretch(2))] == [1]
    progress.record(stretch(2), became(2))
    assert [one.index for one in progress.take_update().spans] == [1, 2, 3]
    progress.mark_stored(stretch(2))
    assert progress.unstored(stretch(2)) == []


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
def test_another_run_tells_only_what_was_not_told(states: str, again: list[int]) -> None:
    rows = [row(index, state) for index, state in enumerate(states.split())]
    before = sum(one.end_ms - one.start_ms for one in rows if one.state in {"done", "gap"})
    progress = Progress(job(rows))
    to_send = [one.index for one in rows if progress.add_part(stretch(one.index))]
    assert to_send == [one.index for one in rows if one.state == "pending"]
    for index in to_send:
        progress.record(stretch(index), became(index))
    segments, seconds = told(progress)
    assert segments == again
    assert seconds * 1000 == len(rows) * LENGTH_MS >= before


def test_seconds_done_begin_with_what_an_earlier_run_has_done() -> None:
    rows = [row(0, "silent"), row(1, "pending"), row(2, "done"), row(3, "silent")]
    progress = Progress(job(rows, seconds=4))
    assert progress.take_update().progress.data == {"done_seconds": 2.0, "total_seconds": 4.0}


def test_at_the_end_all_that_there_was_to_hear_is_done_whatever_a_header_said() -> None:
    progress = Progress(job(seconds=2.01))
    progress.add_part(stretch(0))
    progress.add_part(stretch(1))
    progress.record(stretch(0), became(0))
    assert progress.take_update().progress.data == {"done_seconds": 1.0, "total_seconds": 2.01}
    progress.is_cut = True
    progress.record(stretch(1), became(1))
    assert progress.take_update().progress.data == {"done_seconds": 2.0, "total_seconds": 2.0}


def test_what_is_stored_of_a_part_counts_whatever_is_found_in_its_sound_today() -> None:
    progress = Progress(job([row(0, "done"), row(1, "silent"), row(2, "gap")]))
    assert not progress.add_part(stretch(0, speaks=False))
    assert not progress.add_part(stretch(1))
    assert not progress.add_part(stretch(2))
    assert [(text.text, text.done) for text in progress.texts] == [("text 0", True), ("", False)]


def test_it_is_complete_once_all_is_cut_and_heard_and_something_was() -> None:
    progress = Progress(job())
    for index in range(3):
        progress.add_part(stretch(index))
    progress.record(stretch(1), PartOutcome(1, error_code="engine_timeout"))
    progress.record(stretch(0), PartOutcome(0, error_code="engine_refused"))
    assert progress.failure_reason is not None
    assert progress.failure_reason.code == "engine_refused"
    progress.record(stretch(2), became(2))
    assert progress.failure_reason is None
    assert not progress.is_complete
    progress.is_cut = True
    assert progress.is_complete


def test_where_all_is_given_up_nothing_is_complete() -> None:
    progress = Progress(job())
    progress.add_part(stretch(0))
    progress.is_cut = True
    progress.record(stretch(0), PartOutcome(0, error_code="engine_refused"))
    assert not progress.is_complete


def test_a_gap_and_a_repetition_say_where_and_why() -> None:
    progress = Progress(job())
    progress.add_part(stretch(0))
    progress.add_part(stretch(1))
    progress.record(stretch(1), PartOutcome(1, {**result_of(1), "repetition": "kept"}))
    progress.record(stretch(0), PartOutcome(0, error_code="engine_refused"))
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
