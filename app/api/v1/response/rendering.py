"""A job as the JSON of the native API: `schemas` describes it, a test compares the two."""

from collections.abc import Mapping
from typing import Any

from fastapi import Response

from app.access.principal import Principal, Scope
from app.api.v1.schemas import ErrorOut, WarningOut
from app.jobs.cancel import CancellationCost
from app.jobs.store.job import JobView
from app.jobs.store.job_spec import JobPlan
from app.kit.clock import to_rfc3339
from app.kit.json_bytes import json_bytes
from app.kit.money import Money

_WARNING = {name: field.get_default() for name, field in WarningOut.model_fields.items()}
_ERROR = {name: field.get_default() for name, field in ErrorOut.model_fields.items()}
_NO_TRANSCRIPT: Mapping[str, Any] = {
    "text": None,
    "language": None,
    "emotion": None,
    "segments": [],
    "coverage": None,
}


def json_response(
    body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with JSON."""
    return Response(json_bytes(body), status, headers, "application/json")


def job_body(job: JobView) -> dict[str, Any]:
    """Return a job as `schemas.TranscriptionOut` describes it, ready for JSON.

    Built without that model: validating and dumping it costs four times as much.
    """
    spoken = job.transcript or _NO_TRANSCRIPT
    audio = job.audio
    duration_ms = audio.duration_ms if audio else None
    share_done = job.done_ms / duration_ms if duration_ms else 0.0
    return {
        "id": job.id,
        "status": job.status,
        "text": spoken["text"],
        "language": spoken["language"],
        "emotion": spoken["emotion"],
        "segments": spoken["segments"],
        "model": job.model,
        "engine": job.engine,
        "mode": job.mode,
        "plan": plan_body(job.plan),
        "task_id": job.task_id,
        "audio": audio
        and {
            "id": audio.id,
            "seconds": None if duration_ms is None else duration_ms / 1000,
            "format": audio.format,
            "channels": audio.channels,
            "sample_rate": audio.sample_rate,
            "bytes": audio.bytes,
        },
        "usage": {
            "seconds": job.totals.used_ms / 1000,
            "tokens": job.totals.used_tokens or None,
            "estimated": job.totals.estimates > 0,
        },
        "cost": cost_body(Money(job.totals.settled, job.currency)),
        "coverage": spoken["coverage"],
        "progress": 1.0 if job.status == "completed" else min(1.0, share_done),
        "warnings": [_chosen(warning, _WARNING) for warning in job.warnings],
        "error": None if job.error is None else _chosen(job.error, _ERROR),
        "reference": job.reference,
        "metadata": job.metadata,
        "raw": job.raw,
        "created_at": to_rfc3339(job.created_at),
        "started_at": job.started_at and to_rfc3339(job.started_at),
        "completed_at": job.completed_at and to_rfc3339(job.completed_at),
    }


def cancelled_body(job: JobView, cost: CancellationCost) -> dict[str, Any]:
    """Return a cancelled job as `schemas.CancelledOut` describes it."""
    return job_body(job) | {
        "charged": cost_body(cost.charged),
        "in_doubt": cost_body(cost.in_doubt),
    }


def readable_body(principal: Principal, body: dict[str, Any]) -> dict[str, Any]:
    """Return a body as this caller may read it: without `read`, no content of the job."""
    if Scope.READ in principal.scopes:
        return body
    return body | {
        **dict.fromkeys(("text", "language", "emotion", "reference", "metadata", "raw", "error")),
        "segments": [],
        "warnings": [],
    }


def plan_body(plan: JobPlan) -> dict[str, Any]:
    """Return a plan as `schemas.PlanOut` describes it."""
    return {
        "kind": plan.kind,
        "part_seconds": plan.part_seconds,
        "reason": plan.reason,
        "as_is": plan.as_is,
        "audio_source": plan.audio_source,
    }


def cost_body(money: Money) -> dict[str, Any]:
    """Return an amount as `schemas.Cost` describes it."""
    return {"amount": money.amount, "currency": money.currency, "nano": money.nano}


def _chosen(stored: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a schema, each as stored or with its default."""
    return {name: stored.get(name, default) for name, default in fields.items()}
