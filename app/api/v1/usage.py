"""/v1/usage and /v1/costs: usage and cost, summed by group, as JSON or CSV."""

import csv
import io
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from app import errors
from app.api.auth import AUTH_ERRORS, Accountant
from app.api.http.problems import responses
from app.api.services import services_of
from app.api.v1.response.examples import example, json_answer
from app.api.v1.schemas import AskedMoment, Moment, Schema
from app.billing.usage import Period, UsageGroup, UsageSum, sum_usage
from app.kit.money import format_nano

DEFAULT_DAYS = 30

router = APIRouter(prefix="/v1", tags=["accounting"])


class _Group(Schema):
    """The values of the requested groups; the other members are null."""

    day: str | None = None
    model: str | None = None
    project: str | None = None
    key: str | None = None


class UsageRow(_Group):
    transcriptions: int
    seconds: float
    tokens: int


class CostRow(_Group):
    transcriptions: int
    amount: str
    currency: str
    nano: int


class UsageReport(Schema):
    since: Moment
    until: Moment
    items: Sequence[UsageRow]


class CostReport(Schema):
    since: Moment
    until: Moment
    items: Sequence[CostRow]


Since = Annotated[
    AskedMoment | None,
    Query(description=f"Start (RFC 3339); by default {DEFAULT_DAYS} days before `until`."),
]
Until = Annotated[
    AskedMoment | None, Query(description="End, exclusive (RFC 3339); by default now.")
]
Groups = Annotated[
    list[UsageGroup],
    Query(alias="by", min_length=1, max_length=4, description="The sums are grouped by these."),
]
Form = Annotated[Literal["json", "csv"], Query(alias="format", description="JSON or CSV.")]


def _report_responses(name: str) -> dict[int | str, dict[str, Any]]:
    answer = json_answer("The sums.", f"{name}.json")
    answer["content"]["text/csv"] = {
        "schema": {"type": "string"},
        "example": example(f"{name}.csv"),
    }
    return {200: answer, **responses(*AUTH_ERRORS, errors.InvalidParameter)}


class Question:
    """The period, groups and format of a request for sums, as a dependency; groups are unique."""

    def __init__(
        self,
        request: Request,
        since: Since = None,
        until: Until = None,
        groups: Groups = ["day"],  # noqa: B006 - FastAPI copies defaults
        form: Form = "json",
    ) -> None:
        end = until or services_of(request).clock()
        self.period = Period(since or end - timedelta(days=DEFAULT_DAYS), end)
        self.groups, self.form = list(dict.fromkeys(groups)), form


Asked = Annotated[Question, Depends()]


@router.get(
    "/usage",
    operation_id="getUsage",
    summary="Sum used seconds",
    response_model=UsageReport,
    responses=_report_responses("usage"),
)
async def get_usage(request: Request, principal: Accountant, question: Asked) -> Response:
    """Sum the used seconds and tokens of this key's project. Days are UTC days."""
    rows = [
        UsageRow(
            **_group(question, row),
            transcriptions=row.transcriptions,
            seconds=row.used_ms / 1000,
            tokens=row.used_tokens,
        )
        for row in await _read_sums(request, principal.project_id, question)
    ]
    report = UsageReport(since=question.period.since, until=question.period.until, items=rows)
    return _report_response(report, UsageRow, rows, question.form)


@router.get(
    "/costs",
    operation_id="getCosts",
    summary="Sum costs",
    response_model=CostReport,
    responses=_report_responses("costs"),
)
async def get_costs(request: Request, principal: Accountant, question: Asked) -> Response:
    """Sum the costs of this key's project, a row for each currency. Days are UTC days."""
    rows = [
        CostRow(
            **_group(question, row),
            transcriptions=row.transcriptions,
            amount=format_nano(row.nano),
            currency=row.currency,
            nano=row.nano,
        )
        for row in await _read_sums(request, principal.project_id, question)
    ]
    report = CostReport(since=question.period.since, until=question.period.until, items=rows)
    return _report_response(report, CostRow, rows, question.form)


async def _read_sums(request: Request, project_id: str, question: Question) -> list[UsageSum]:
    return await services_of(request).db.read(
        sum_usage, project_id=project_id, period=question.period, by=question.groups
    )


def _group(question: Question, row: UsageSum) -> dict[str, str | None]:
    return dict(zip(question.groups, row.group, strict=True))


def _report_response(
    report: BaseModel, row_type: type[BaseModel], rows: Sequence[BaseModel], form: str
) -> Response:
    if form == "json":
        return Response(report.model_dump_json(), media_type="application/json")
    table = io.StringIO()
    writer = csv.DictWriter(table, list(row_type.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump() for row in rows)
    return Response(table.getvalue(), media_type="text/csv")
