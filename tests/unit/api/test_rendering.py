"""The JSON of a job is what its schema describes, member for member.

Covers: app.api.v1.response.rendering, app.api.v1.schemas, app.jobs.cancel, app.jobs.store.job,
app.kit.money
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import BaseModel

from app.api.v1.response.rendering import cancelled_body, job_body, json_response
from app.api.v1.schemas import CancelledOut, TranscriptionOut
from app.billing.ledger import JobTotals
from app.jobs.cancel import CancellationCost
from app.jobs.store.job import Audio, JobView
from app.jobs.store.job_spec import JobOptions, JobPlan
from app.kit.money import Money
from app.speech.transcript import Segment, Transcript, Word

MOMENT = datetime(2026, 11, 21, 5, 28, 0, 1_999, tzinfo=UTC)
TRANSCRIPT = Transcript(
    text="Yes. \u4f60\u597d",
    language="en",
    segments=(
        Segment(
            start=0.0,
            end=1.25,
            text="Yes.",
            timing="upstream",
            words=(Word(start=0, end=1, text="Yes."),),
        ),
        Segment(start=2.0, end=3.0, text="\u4f60\u597d", channel=1, speaker="1"),
    ),
    coverage=0.5,
)
QUEUED = JobView(
    id="tr_" + "0" * 32,
    status="queued",
    mode="async",
    model="qwen3-asr-flash",
    engine="dashscope",
    plan=JobPlan(
        kind="direct",
        part_seconds=240,
        reason="one call",
        as_is=False,
        upstream_model="x",
        min_speech_ms=250,
    ),
    currency="CNY",
    options=JobOptions(include=("raw",)),
    warnings=[],
    error=None,
    reference=None,
    metadata=None,
    done_ms=0,
    created_at=MOMENT,
    started_at=None,
    completed_at=None,
    erased_at=None,
    audio=None,
    totals=JobTotals(),
    transcript=None,
)
AUDIO = Audio("aud_" + "0" * 32, "key", 54_000, "mp3", 1, 44_100, 3_400)
COMPLETED = replace(
    QUEUED,
    status="completed",
    plan=replace(QUEUED.plan, as_is=True, audio_source="gateway_url", kind="filetrans"),
    warnings=[
        {"code": "gap", "detail": "x", "start": 1.0, "end": 2.0},
        {"code": "b", "detail": "y", "option": "z"},
    ],
    metadata={"team": "a"},
    reference="r",
    done_ms=3_400,
    started_at=MOMENT + timedelta(seconds=1),
    completed_at=MOMENT.astimezone(timezone(timedelta(hours=8))),
    audio=AUDIO,
    totals=JobTotals(settled=2_640_000, used_ms=12_000, used_tokens=7, estimates=1),
    transcript=TRANSCRIPT.model_dump(mode="json"),
    raw=[{"a": 2**70, "c": 1.5}],
    task_id="t",
)
RUNNING = replace(QUEUED, status="processing", audio=AUDIO, done_ms=1_700, started_at=MOMENT)
FAILED = replace(
    RUNNING,
    status="failed",
    error={"code": "engine_failed", "detail": "No.", "retryable": True},
    audio=replace(AUDIO, duration_ms=None),
)


def described(model: type[BaseModel], body: Mapping[str, Any]) -> Any:
    """Return a body after validation by the schema."""
    return json.loads(model.model_validate_json(json.dumps(body)).model_dump_json())


@pytest.mark.parametrize("job", [QUEUED, RUNNING, COMPLETED, FAILED], ids=lambda job: job.status)
def test_a_job_is_what_the_schema_describes(job: JobView) -> None:
    shown = json.loads(json_response(job_body(job)).body)
    assert list(shown) == list(TranscriptionOut.model_fields)
    assert shown == described(TranscriptionOut, shown)


def test_a_completed_job_in_full() -> None:
    shown = json.loads(json_response(job_body(COMPLETED)).body)
    assert (shown["text"], shown["coverage"], shown["progress"]) == (TRANSCRIPT.text, 0.5, 1.0)
    assert [segment["channel"] for segment in shown["segments"]] == [None, 1]
    assert shown["usage"] == {"seconds": 12.0, "tokens": 7, "estimated": True}
    assert shown["cost"] == {"amount": "0.00264", "currency": "CNY", "nano": 2_640_000}
    assert shown["plan"]["as_is"] is True
    assert "upstream_model" not in shown["plan"]
    assert shown["raw"] == [{"a": 2**70, "c": 1.5}]
    assert shown["created_at"] == shown["completed_at"] == "2026-11-21T05:28:00.001Z"
    assert json.loads(json_response(job_body(RUNNING)).body)["progress"] == 0.5


def test_a_cancelled_job_has_its_cost() -> None:
    cost = CancellationCost(charged=Money(1, "CNY"), in_doubt=Money(2, "CNY"), epoch=1)
    shown = json.loads(json_response(cancelled_body(RUNNING, cost)).body)
    assert shown == described(CancelledOut, shown)
    assert (shown["charged"]["nano"], shown["in_doubt"]["nano"]) == (1, 2)
