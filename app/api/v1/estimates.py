"""/v1/estimates: the expected cost and duration of a transcription. Nothing is stored."""

from collections.abc import Sequence

from fastapi import APIRouter, Request
from pydantic import Field

from app.api.auth import AUTH_ERRORS, Transcriber
from app.api.http.problems import responses
from app.api.services import services_of
from app.api.v1.request.openapi import ESTIMATE_BODY
from app.api.v1.request.prefer import PREFER
from app.api.v1.request.receive import UPLOAD_ERRORS, receive_request
from app.api.v1.response.examples import json_answer
from app.api.v1.response.rendering import plan_body
from app.api.v1.schemas import Cost, Moment, PlanOut, Schema, WarningOut
from app.jobs.estimate import SECONDS
from app.kit.money import Money, format_nano

router = APIRouter(prefix="/v1/estimates", tags=["estimates"])

_REFUSALS = (*AUTH_ERRORS, *UPLOAD_ERRORS)


class TokensOut(Schema):
    """Expected tokens; the number of output tokens is an estimate."""

    input: int
    output: int


class EstimatePriceOut(Schema):
    """`amount` of `currency` for one `unit`, and the source of the price."""

    unit: str
    amount: str
    currency: str
    source: str
    valid_from: Moment


class WaitOut(Schema):
    """Expected time until the text if the request were sent now; `basis` explains the estimate."""

    seconds: float | None = Field(description="Null if the length is unknown.")
    jobs_waiting: int
    jobs_running: int
    seconds_per_call: float
    measured_calls: int = Field(description="0: `seconds_per_call` is a default.")
    basis: str


class EstimateOut(Schema):
    """The estimate for a request. `cost` is the expected cost, `max_cost` would be held."""

    model: str
    engine: str
    region: str
    seconds: float | None = Field(description="Length of the recording; null if unknown.")
    plan: PlanOut
    parts: int | None
    requests: int | None = Field(description="Calls to the engine, without retries.")
    billed_seconds: int | None = Field(description="Expected billed seconds, each part rounded up.")
    tokens: TokensOut | None = None
    prices: Sequence[EstimatePriceOut]
    cost: Cost | None
    max_cost: Cost
    wait: WaitOut
    warnings: Sequence[WarningOut] = ()


@router.post(
    "",
    operation_id="createEstimate",
    summary="Estimate cost and time of a transcription",
    responses={
        200: json_answer("The estimate.", "estimate.json"),
        **responses(*_REFUSALS),
    },
    openapi_extra={"requestBody": ESTIMATE_BODY, "parameters": [PREFER]},
)
async def create_estimate(request: Request, principal: Transcriber) -> EstimateOut:
    """Estimate plan, cost and duration of a POST /v1/transcriptions request. Nothing is stored.

    The headers `Prefer` and `Accept` have the same effect as there. The length of the recording,
    `seconds`, can be sent instead of the recording. The file of a link is not fetched, so its
    length is unknown and the estimate has only the upper bound.
    """
    services = services_of(request)
    received, preference = await receive_request(request, SECONDS)
    found = await services.estimator.estimate(principal, received, preference.options)
    spec, expected, tariff, wait = found.spec, found.spec.expected, found.tariff, found.wait
    warnings = [WarningOut(**one) for one in spec.warnings]
    if found.refusal is not None:  # the request would be rejected
        warnings.append(WarningOut(code=found.refusal.code, detail=found.refusal.detail))
    return EstimateOut(
        model=spec.model,
        engine=spec.engine,
        region=spec.region,
        seconds=found.seconds,
        plan=PlanOut(**plan_body(spec.plan)),
        parts=expected and expected.parts,
        requests=expected and expected.parts,
        billed_seconds=expected and expected.millis // 1000,
        tokens=TokensOut(input=expected.input_tokens, output=expected.output_tokens)
        if expected is not None and tariff.counts_tokens
        else None,
        prices=[
            EstimatePriceOut(
                unit=row.unit,
                amount=format_nano(row.nano),
                currency=row.currency,
                source=row.source,
                valid_from=row.valid_from,
            )
            for row in found.prices
        ],
        cost=expected and _cost(tariff.cost(*expected.units), tariff.currency),
        max_cost=_cost(found.max_nano, tariff.currency),
        wait=WaitOut(
            seconds=None if wait.seconds is None else round(wait.seconds, 2),
            jobs_waiting=wait.jobs_waiting,
            jobs_running=wait.jobs_running,
            seconds_per_call=round(wait.throughput.call_seconds, 3),
            measured_calls=wait.throughput.measured_calls,
            basis=wait.basis,
        ),
        warnings=warnings,
    )


def _cost(nano: int, currency: str) -> Cost:
    return Cost(amount=Money(nano, currency).amount, currency=currency, nano=nano)
