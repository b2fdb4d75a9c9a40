"""/v1/models: the available models, their options and input formats, and their prices."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from app.api.auth import AUTH_ERRORS, Reader
from app.api.http.problems import responses
from app.api.services import services_of
from app.api.v1.response.examples import json_answer
from app.api.v1.schemas import Schema
from app.speech.model_availability import how_to_switch_on

router = APIRouter(prefix="/v1/models", tags=["models"])


class PriceOut(Schema):
    """`amount` of `currency` for one `unit`, as the catalogue lists it.

    A unit is a `second`, an `input_token` or an `output_token`: 0.8 CNY per million tokens is
    0.0000008 per token. A `text_input_token` is an input token of text with its own price.
    """

    unit: str
    amount: str
    currency: str
    region: str


class ModelOut(Schema):
    """A model. `unmet` is the reason if it is not `ready`.

    `call_seconds` is the longest audio of one call. `accepts` lists formats sent as received.
    """

    id: Annotated[str, Field(examples=["local/base"])]
    title: str
    engine: str
    is_default: bool
    ready: bool
    unmet: str
    languages: Sequence[str]
    options: Sequence[str]
    word_times: bool
    part_seconds: int
    call_seconds: int
    accepts: Sequence[str]
    context_tokens: int
    prices: Sequence[PriceOut]


class ModelList(Schema):
    items: Sequence[ModelOut]


@router.get(
    "",
    operation_id="listModels",
    summary="List the models",
    responses={
        200: json_answer("All models of this gateway.", "models.json"),
        **responses(*AUTH_ERRORS),
    },
)
async def list_models(request: Request, _principal: Reader) -> ModelList:
    services = services_of(request)
    items = []
    for model in services.catalogue.models.values():
        readiness = services.readiness(model)
        item = ModelOut(
            id=model.name,
            title=model.title,
            engine=model.engine,
            is_default=model.name == services.settings.default_model,
            ready=readiness.ready if readiness else False,
            unmet=readiness.unmet if readiness else how_to_switch_on(model),
            languages=model.languages,
            options=sorted(model.options),
            word_times=model.word_times,
            part_seconds=model.part_seconds,
            call_seconds=model.call_seconds,
            accepts=sorted(model.accepts),
            context_tokens=model.context_tokens,
            prices=[
                PriceOut(**price.model_dump(include={"unit", "amount", "currency", "region"}))
                for price in model.prices
            ],
        )
        items.append(item)
    return ModelList(items=items)
