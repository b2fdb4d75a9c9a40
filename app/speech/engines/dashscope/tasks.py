"""DashScope's asynchronous route: tasks, the results that they leave, and the temporary upload.

Everything that reads or writes the vendor's JSON is pure and beside this file (`dashscope_*`).
"""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from typing import Self
from urllib.parse import quote, urlencode, urlsplit

from app.net.fetch import Fault, FetchError
from app.net.http.exchange import Answer, Body, ExchangeError, HttpClient
from app.net.http.selection import open_http_client
from app.net.limiter import Limiter, QueueTooLongError
from app.net.provider_storage import ProviderStorage
from app.speech.engine import Billed, EngineError, ErrorKind
from app.speech.engines.dashscope.errors import parse_error
from app.speech.engines.dashscope.task_requests import file_url_ask, file_urls_ask, submit_headers
from app.speech.engines.dashscope.task_responses import parse_report, parse_result, parse_taken
from app.speech.engines.dashscope.uploads import STORED, check_size, form_of, key_of, parse_policy
from app.speech.engines.http.account import ProviderAccount
from app.speech.engines.http.admission import HELD_SECONDS, CallAdmission
from app.speech.engines.http.json_body import (
    MOST_ANSWER_BYTES,
    json_bytes,
    malformed_response,
    no_answer,
)
from app.speech.task_engine import FileText, FileUpload, SubmittedTask, TaskReport, TaskRequest

SUBMIT_ROUTE = "/api/v1/services/audio/asr/transcription"
TASKS_ROUTE = "/api/v1/tasks"
POLICY_ROUTE = "/api/v1/uploads"
DOMAINS = ("aliyuncs.com",)
MOST_RESULT_BYTES = 256 << 20
PARSE_IN_THREAD_BYTES = 64 << 10
POLICIES_A_MINUTE = 100 * 60
# Of the questions allowed: they are counted in every single second, in which a stall of either
# side gathers those of the moments before.
POLL_SHARE = 0.85
QUEUE_SECONDS = 2.0  # that a question about a task waits for its turn
LEAST_BYTES_A_SECOND = 256 << 10  # of an upload
OK = 200

_ASKS = {"file-url": file_url_ask, "file-urls": file_urls_ask}


@dataclass(frozen=True, slots=True)
class TaskPatience:
    """How many seconds are waited for each of them; `silence` of the store between two reads.

    An upload has besides them what its size takes.
    """

    submit: float = 60.0
    poll: float = 20.0
    result: float = 300.0
    upload: float = 60.0
    silence: float = 30.0

    @classmethod
    def at_most(cls, seconds: float) -> Self:
        """Return the usual patience, none of it longer than that."""
        usual = asdict(cls())
        return cls(**{name: min(value, seconds) for name, value in usual.items()})


class DashScopeTasks:
    """A TaskEngine; `shapes` tells of every upstream model how it is asked.

    `account` names whose polls are counted together, `polls_a_minute` how many are allowed.
    """

    def __init__(
        self,
        bundle: ProviderAccount,
        shapes: Mapping[str, str],
        admission: CallAdmission,
        limiter: Limiter,
        *,
        account: str,
        polls_a_minute: float,
        may_upload: bool = True,
        patience: TaskPatience | None = None,
    ) -> None:
        self.may_upload = may_upload
        self._bundle = bundle
        self._shapes = shapes
        self._admission = admission
        self._limiter = limiter
        self._account = account
        self._polls_a_minute = polls_a_minute * POLL_SHARE
        self.polls_a_second = self._polls_a_minute / 60
        self._patience = patience or TaskPatience()
        self._client: HttpClient | None = None
        own_host = urlsplit(bundle.base_url).hostname or ""
        silence = self._patience.silence
        self._store = ProviderStorage(DOMAINS, own_host, silence_seconds=silence)

    async def open(self) -> None:
        """Open the pool; a connection comes with the first call."""
        self._client = open_http_client(self._bundle.base_url)

    async def close(self) -> None:
        """Close the pools; calls that still run end with an error."""
        await self._store.close()
        if self._client is not None:
            await self._client.close()
            self._client = None

    def knows(self, model: str) -> bool:
        """Tell whether tasks of `model` may be submitted."""
        return model in self._shapes

    def admit(
        self, model: str, patience: float, priority: int = 0
    ) -> AbstractAsyncContextManager[None]:
        """Wait for the turn of a submit; see TaskEngine."""
        return self._admission.admit(model, patience, priority)

    async def submit(self, order: TaskRequest) -> SubmittedTask:
        """Submit a task; see TaskEngine."""
        began = await self._admission.begin(order.model)
        try:
            taken = await self._submit(order)
        except EngineError as error:
            raise await self._admission.note_error(order.model, error, began) from error
        self._admission.note_answer(began)
        return taken

    async def _submit(self, order: TaskRequest) -> SubmittedTask:
        shape = self._shapes.get(order.model)
        if shape is None:
            raise EngineError(ErrorKind.UNAVAILABLE, "a model of another engine")
        headers = {**self._bundle.headers(), **submit_headers(order)}
        answer = await self._post(
            SUBMIT_ROUTE, json_body(_ASKS[shape](order)), headers, self._patience.submit
        )
        if answer.status != OK:
            raise parse_error(answer.status, answer.headers, answer.body)
        return parse_taken(answer.body)

    async def report(self, task_id: str) -> TaskReport:
        """Ask how a task is; see TaskEngine."""
        answer = await self._asked_for_task(_path(task_id))
        return parse_report(answer.body)

    async def cancel(self, task_id: str) -> bool:
        """Call a task off; see TaskEngine."""
        try:
            await self._asked_for_task(
                f"{_path(task_id)}/cancel", Body(0, "application/json", tuple)
            )
        except EngineError as error:
            if error.kind is ErrorKind.REJECTED:
                return False
            raise
        return True

    async def result(self, url: str) -> FileText:
        """Fetch and read a result; see TaskEngine."""
        try:
            body = await self._store.download(
                url, max_bytes=MOST_RESULT_BYTES, deadline_seconds=self._patience.result
            )
        except FetchError as error:
            raise _not_fetched(error) from error
        if len(body) < PARSE_IN_THREAD_BYTES:
            return parse_result(body)
        return await asyncio.to_thread(parse_result, body)

    async def upload(self, model: str, file: FileUpload) -> str:
        """Bring a file into the temporary store; see TaskEngine."""
        await self._turn(f"{self._account}/{model}/uploads", POLICIES_A_MINUTE)
        query = urlencode({"action": "getPolicy", "model": model})
        answer = await self._get(f"{POLICY_ROUTE}?{query}")
        if answer.status != OK:
            raise parse_error(answer.status, answer.headers, answer.body)
        policy = parse_policy(answer.body)
        check_size(policy, file.length)
        try:
            stored = await self._store.send(
                policy["upload_host"],
                form_of(policy, file),
                deadline_seconds=self._patience.upload + file.length / LEAST_BYTES_A_SECOND,
                max_bytes=MOST_ANSWER_BYTES,
            )
        except ExchangeError as error:
            raise _free(no_answer(error)) from error
        if stored.status not in STORED:
            words = f"the store answered {stored.status} to an upload"
            raise EngineError(ErrorKind.INTERNAL, words, retryable=True)
        return f"oss://{key_of(policy, file)}"

    async def _asked_for_task(self, path: str, body: Body | None = None) -> Answer:
        """Send one of the calls that are counted together, in its turn. Raises EngineError."""
        key = f"{self._account}/tasks"
        await self._turn(key, self._polls_a_minute)
        try:
            answer = await (
                self._get(path)
                if body is None
                else self._post(path, body, self._bundle.headers(), self._patience.poll)
            )
        except EngineError as error:
            raise _free(error) from error
        if answer.status == OK:
            return answer
        refusal = parse_error(answer.status, answer.headers, answer.body)
        if refusal.kind is ErrorKind.RATE_LIMITED:
            await self._limiter.hold(key, refusal.retry_after or HELD_SECONDS)
        raise _free(refusal)

    async def _turn(self, key: str, per_minute: float) -> None:
        try:
            await self._limiter.wait(key, per_minute, QUEUE_SECONDS)
        except QueueTooLongError as error:
            raise EngineError(
                ErrorKind.RATE_LIMITED, str(error), retryable=True, retry_after=error.seconds
            ) from error
        await self._limiter.leave(key, per_minute)

    async def _get(self, path: str) -> Answer:
        try:
            return await self._opened.get(
                path,
                headers=self._bundle.headers(),
                deadline_seconds=self._patience.poll,
                max_bytes=MOST_ANSWER_BYTES,
            )
        except ExchangeError as error:
            raise _free(no_answer(error)) from error

    async def _post(
        self, path: str, body: Body, headers: Mapping[str, str], seconds: float
    ) -> Answer:
        try:
            return await self._opened.post(
                path,
                body,
                headers=headers,
                deadline_seconds=seconds,
                max_bytes=MOST_ANSWER_BYTES,
            )
        except ExchangeError as error:
            raise no_answer(error) from error

    @property
    def _opened(self) -> HttpClient:
        if self._client is None:
            raise EngineError(ErrorKind.UNAVAILABLE, "closed")
        return self._client


def json_body(value: Mapping[str, object]) -> Body:
    """Return a small JSON body."""
    data = json_bytes(value)
    return Body(len(data), "application/json", lambda: (data,))


def _path(task_id: str) -> str:
    return f"{TASKS_ROUTE}/{quote(task_id, safe='')}"


def _free(error: EngineError) -> EngineError:
    """Say that what failed costs nothing, whether or not it was carried out."""
    error.billed = Billed.NO
    return error


def _not_fetched(error: FetchError) -> EngineError:
    if error.fault is Fault.TOO_LARGE:
        return _free(malformed_response(f"a result of more than {MOST_RESULT_BYTES} bytes"))
    words = f"the result could not be fetched: {error.host} {error.fault} {error.status or ''}"
    kind = ErrorKind.TIMEOUT if error.fault is Fault.TIMEOUT else ErrorKind.NETWORK
    return EngineError(kind, words.rstrip(), retryable=True)
