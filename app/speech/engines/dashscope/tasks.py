"""DashScope's asynchronous route: tasks, their results, and the upload to temporary storage.

The vendor's JSON is written and read by the pure modules beside this one.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from typing import Self
from urllib.parse import quote, urlencode, urlsplit

from app.kit.json_bytes import json_bytes
from app.net.fetch import FetchError, FetchFault
from app.net.http.exchange import OK, Answer, Body, ExchangeError, HttpClient
from app.net.http.selection import open_http_client
from app.net.provider_storage import ProviderStorage
from app.net.rate_limiter import MINUTE, QueueTooLongError, RateLimiter
from app.speech.engine import Billed, EngineError, ErrorKind
from app.speech.engines.dashscope.errors import dashscope_error
from app.speech.engines.dashscope.task_requests import (
    file_url_request,
    file_urls_request,
    submit_headers,
)
from app.speech.engines.dashscope.task_responses import parse_report, parse_result, parse_submitted
from app.speech.engines.dashscope.uploads import (
    STORED_STATUSES,
    check_upload_size,
    parse_policy,
    storage_key,
    upload_form,
)
from app.speech.engines.http.admission import BLOCK_SECONDS, CallAdmission
from app.speech.engines.http.engine import MAX_ANSWER_BYTES
from app.speech.engines.http.failures import exchange_failure, malformed_response
from app.speech.engines.http.provider_account import ProviderAccount
from app.speech.task_engine import FileText, FileUpload, SubmittedTask, TaskReport, TaskRequest

SUBMIT_ROUTE = "/api/v1/services/audio/asr/transcription"
TASKS_ROUTE = "/api/v1/tasks"
POLICY_ROUTE = "/api/v1/uploads"
STORAGE_DOMAINS = ("aliyuncs.com",)
MAX_RESULT_BYTES = 256 << 20
PARSE_IN_THREAD_BYTES = 64 << 10
POLICIES_PER_MINUTE = 100 * 60
# Of the allowed polls. The provider counts them in every second, and a stall of either side moves
# polls of one second into the next.
POLL_SHARE = 0.85
POLL_QUEUE_SECONDS = 2.0  # that a poll waits for its slot
MIN_UPLOAD_BYTES_PER_SECOND = 256 << 10

_REQUESTS = {"file-url": file_url_request, "file-urls": file_urls_request}


@dataclass(frozen=True, slots=True)
class TaskTimeouts:
    """Seconds that each kind of request may take; `silence` between two reads from the storage.

    An upload may take longer, by its size.
    """

    submit: float = 60.0
    poll: float = 20.0
    result: float = 300.0
    upload: float = 60.0
    silence: float = 30.0

    @classmethod
    def at_most(cls, seconds: float) -> Self:
        """Return the default timeouts, none of them longer than `seconds`."""
        return cls(**{name: min(value, seconds) for name, value in asdict(cls()).items()})


class DashScopeTasks:
    """A TaskEngine. `shapes` are the request forms of the upstream models.

    `limit_key` names the account whose polls are counted together, at most `polls_per_minute`.
    """

    def __init__(
        self,
        account: ProviderAccount,
        wires: Mapping[str, str],
        admission: CallAdmission,
        limiter: RateLimiter,
        *,
        limit_key: str,
        polls_per_minute: float,
        may_upload: bool = True,
        timeouts: TaskTimeouts | None = None,
    ) -> None:
        self.may_upload = may_upload
        self._account = account
        self._wires = wires
        self._admission = admission
        self._limiter = limiter
        self._limit_key = limit_key
        self._polls_per_minute = polls_per_minute * POLL_SHARE
        self.polls_per_second = self._polls_per_minute / MINUTE
        self._timeouts = timeouts or TaskTimeouts()
        self._client: HttpClient | None = None
        own_host = urlsplit(account.base_url).hostname or ""
        silence = self._timeouts.silence
        self._storage = ProviderStorage(STORAGE_DOMAINS, own_host, silence_seconds=silence)

    async def open(self) -> None:
        """Open the HTTP client. Connections are made by the first calls."""
        self._client = open_http_client(self._account.base_url)

    async def close(self) -> None:
        """Close the HTTP clients. Calls that still run end with an error."""
        await self._storage.close()
        if self._client is not None:
            await self._client.close()
            self._client = None

    def knows(self, model: str) -> bool:
        """Return whether tasks of `model` can be submitted."""
        return model in self._wires

    def admit(
        self, model: str, max_wait_seconds: float, priority: int = 0
    ) -> AbstractAsyncContextManager[None]:
        """Wait for the admission of a submit; see TaskEngine."""
        return self._admission.admit(model, max_wait_seconds, priority)

    async def submit(self, request: TaskRequest) -> SubmittedTask:
        """Submit a task; see TaskEngine."""
        began = await self._admission.begin(request.model)
        try:
            task = await self._submit(request)
        except EngineError as error:
            raise await self._admission.record_error(request.model, error, began) from error
        self._admission.record_answer(began)
        return task

    async def _submit(self, request: TaskRequest) -> SubmittedTask:
        wire = self._wires.get(request.model)
        if wire is None:
            raise EngineError(ErrorKind.UNAVAILABLE, "a model of another engine")
        data = json_bytes(_REQUESTS[wire](request))
        answer = await self._post(
            SUBMIT_ROUTE,
            Body(len(data), "application/json", lambda: (data,)),
            {**self._account.headers(), **submit_headers(request)},
            self._timeouts.submit,
        )
        if answer.status != OK:
            raise dashscope_error(answer.status, answer.headers, answer.body)
        return parse_submitted(answer.body)

    async def report(self, task_id: str) -> TaskReport:
        """Return the status of a task; see TaskEngine."""
        answer = await self._call_task(_task_path(task_id))
        return parse_report(answer.body)

    async def cancel(self, task_id: str) -> bool:
        """Cancel a task; see TaskEngine."""
        path, empty = f"{_task_path(task_id)}/cancel", Body(0, "application/json", tuple)
        try:
            await self._call_task(path, empty)
        except EngineError as error:
            if error.kind is ErrorKind.REJECTED:
                return False
            raise
        return True

    async def result(self, url: str) -> FileText:
        """Fetch and read a result; see TaskEngine."""
        try:
            body = await self._storage.download(
                url, max_bytes=MAX_RESULT_BYTES, deadline_seconds=self._timeouts.result
            )
        except FetchError as error:
            if error.fault is FetchFault.TOO_LARGE:
                reason = f"a result of more than {MAX_RESULT_BYTES} bytes"
                raise _free(malformed_response(reason)) from error
            kind = ErrorKind.TIMEOUT if error.fault is FetchFault.TIMEOUT else ErrorKind.NETWORK
            reason = f"the result could not be fetched: {error.host} {error.fault}"
            reason = f"{reason} {error.status or ''}".rstrip()
            raise EngineError(kind, reason, retryable=True) from error
        if len(body) < PARSE_IN_THREAD_BYTES:
            return parse_result(body)
        return await asyncio.to_thread(parse_result, body)

    async def upload(self, model: str, file: FileUpload) -> str:
        """Upload a file to the temporary storage; see TaskEngine."""
        await self._wait_for_slot(f"{self._limit_key}/{model}/uploads", POLICIES_PER_MINUTE)
        query = urlencode({"action": "getPolicy", "model": model})
        answer = await self._get(f"{POLICY_ROUTE}?{query}")
        if answer.status != OK:
            raise dashscope_error(answer.status, answer.headers, answer.body)
        policy = parse_policy(answer.body)
        check_upload_size(policy, file.length)
        try:
            stored = await self._storage.send(
                policy["upload_host"],
                upload_form(policy, file),
                deadline_seconds=self._timeouts.upload + file.length / MIN_UPLOAD_BYTES_PER_SECOND,
                max_bytes=MAX_ANSWER_BYTES,
            )
        except ExchangeError as error:
            raise _free(exchange_failure(error)) from error
        if stored.status not in STORED_STATUSES:
            reason = f"the storage answered {stored.status} to an upload"
            raise EngineError(ErrorKind.INTERNAL, reason, retryable=True)
        return f"oss://{storage_key(policy, file)}"

    async def _call_task(self, path: str, body: Body | None = None) -> Answer:
        """Make a call about a task. All of them share one rate limit. Raises EngineError."""
        key = f"{self._limit_key}/tasks"
        await self._wait_for_slot(key, self._polls_per_minute)
        try:
            answer = await (
                self._get(path)
                if body is None
                else self._post(path, body, self._account.headers(), self._timeouts.poll)
            )
        except EngineError as error:
            raise _free(error) from error
        if answer.status == OK:
            return answer
        failure = dashscope_error(answer.status, answer.headers, answer.body)
        if failure.kind is ErrorKind.RATE_LIMITED:
            await self._limiter.block(key, failure.retry_after or BLOCK_SECONDS)
        raise _free(failure)

    async def _wait_for_slot(self, key: str, per_minute: float) -> None:
        try:
            await self._limiter.acquire(key, per_minute, POLL_QUEUE_SECONDS)
        except QueueTooLongError as error:
            raise EngineError(
                ErrorKind.RATE_LIMITED, str(error), retryable=True, retry_after=error.seconds
            ) from error
        await self._limiter.pace_departure(key, per_minute)

    async def _get(self, path: str) -> Answer:
        try:
            return await self._opened.get(
                path,
                headers=self._account.headers(),
                deadline_seconds=self._timeouts.poll,
                max_bytes=MAX_ANSWER_BYTES,
            )
        except ExchangeError as error:
            raise _free(exchange_failure(error)) from error

    async def _post(
        self, path: str, body: Body, headers: Mapping[str, str], seconds: float
    ) -> Answer:
        try:
            return await self._opened.post(
                path,
                body,
                headers=headers,
                deadline_seconds=seconds,
                max_bytes=MAX_ANSWER_BYTES,
            )
        except ExchangeError as error:
            raise exchange_failure(error) from error

    @property
    def _opened(self) -> HttpClient:
        if self._client is None:
            raise EngineError(ErrorKind.UNAVAILABLE, "closed")
        return self._client


def _task_path(task_id: str) -> str:
    return f"{TASKS_ROUTE}/{quote(task_id, safe='')}"


def _free(error: EngineError) -> EngineError:
    """Mark a failure as not billed: the request is free even if it was carried out."""
    error.billed = Billed.NO
    return error
