"""The temporary upload: a policy of the service, a form to the store, results from it (3.5)."""

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from tests.simulator import dashscope
from tests.simulator.answers import Answer
from tests.simulator.calls import Call, Service
from tests.simulator.errors import ApiError, invalid, store_refuses
from tests.simulator.faults import Fault, Place
from tests.simulator.regions import Region


class Policies:
    """`GET /uploads?action=getPolicy`: the permission to upload a file, and its path."""

    faults: tuple[Place, ...] = ("policy",)
    is_open = False

    def __init__(self, service: Service) -> None:
        self._service = service

    async def read(self, request: Request) -> Mapping[str, Any]:
        return dict(request.query_params)

    def admit(self, call: Call, region: Region) -> None:
        self._service.gate.admit_policy(call.key, call.model)

    async def work(self, call: Call, region: Region, fault: Fault | None) -> Answer:
        if call.body.get("action") != "getPolicy":
            raise invalid("action must be getPolicy.")
        if not call.model:
            raise invalid("Model is required.", "BadRequest.EmptyModel")
        found = self._service.store.policy(call.key, call.model)
        return dashscope.answered({"request_id": call.request_id, "data": found}, call)

    def refused(self, refusal: ApiError, call: Call) -> Answer:
        return dashscope.refused(refusal, call)


class _AtTheStore:
    """Base of the endpoints of the store: no key, no limits, XML."""

    is_open = True

    def __init__(self, service: Service) -> None:
        self._service = service

    def admit(self, call: Call, region: Region) -> None:
        """Admit every request: the store has no limits."""

    def refused(self, refusal: ApiError, call: Call) -> Answer:
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<Error>'
            f"<Code>{escape(refusal.code)}</Code><Message>{escape(refusal.message)}</Message>"
            f"<RequestId>{call.request_id}</RequestId></Error>\n"
        )
        return Answer(refusal.status, "application/xml", [body.encode()], _headers(call))

    def _check_anonymous(self, call: Call) -> None:
        if "authorization" in call.headers:
            message = "Only one auth mechanism is allowed: the signature."
            raise store_refuses(message, "InvalidArgument", 400)


class Uploads(_AtTheStore):
    """The upload form."""

    faults: tuple[Place, ...] = ("upload",)

    async def read(self, request: Request) -> Mapping[str, Any]:
        try:
            async with request.form() as form:
                return {"fields": [(name, await _value(one)) for name, one in form.multi_items()]}
        except HTTPException:
            message = "The body of your POST request is not well-formed multipart/form-data."
            raise store_refuses(message, "MalformedPOSTRequest", 400) from None

    async def work(self, call: Call, region: Region, fault: Fault | None) -> Answer:
        self._check_anonymous(call)
        fields = call.body["fields"]
        call.body = {name: value for name, value in fields if name != "file"}
        self._service.store.take(fields)
        wants = call.body.get("success_action_status")
        status = int(wants) if wants in {"200", "201"} else 204
        return Answer(status, "application/octet-stream", [b""], _headers(call))


class Results(_AtTheStore):
    """The result files."""

    faults: tuple[Place, ...] = ("result",)

    async def read(self, request: Request) -> Mapping[str, Any]:
        return dict(request.query_params)

    async def work(self, call: Call, region: Region, fault: Fault | None) -> Answer:
        self._check_anonymous(call)
        query = {name: str(value) for name, value in call.body.items()}
        body = self._service.store.result(call.path, query)
        return Answer(200, "application/json", [body], _headers(call))


async def _value(field: UploadFile | str) -> bytes | str:
    return await field.read() if isinstance(field, UploadFile) else field


def _headers(call: Call) -> dict[str, str]:
    return {"server": "AliyunOSS", "x-oss-request-id": call.request_id}
