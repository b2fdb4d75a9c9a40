"""Sending many recordings, a few at a time, and following each to its end."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.cli.transcribe.sources import Source
from app.net.api_client import ApiError, GatewayApi

AT_ONCE = 8
FIRST_POLL_SECONDS, LAST_POLL_SECONDS, POLL_GROWTH = 0.2, 2.0, 1.3
BUSY_SECONDS = 600.0  # for which a gateway that takes no more for now is asked again
BUSY_PAUSE_SECONDS = 2.0
AWAY_SECONDS = 60.0  # for which a gateway that restarts is waited for
# Not a broken connection: what it carried may have been accepted, and would be paid for twice.
BUSY_CODES = frozenset({"too_many_jobs", "shutting_down", "database_unavailable"})
ENDED = frozenset({"completed", "failed", "cancelled"})

Body = dict[str, Any]


class NotBegun(Exception):
    """The recording was not sent: the batch was told to begin no more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a recording; `error` is a sentence where it has no transcript."""

    recording: Source
    body: Body | None = None
    error: str = ""
    kept: Any = None


@dataclass
class Batch:
    """Calls `told` with the index of a recording and the API's latest answer, None at its end.

    `keep` is called with each completed transcription; its return value is in the outcome.
    """

    api: GatewayApi
    recordings: Sequence[Source]
    options: Mapping[str, Any]
    told: Callable[[int, Body | None], None]
    keep: Callable[[Source, Body], Awaitable[Any]]
    submit_only: bool = False

    def __post_init__(self) -> None:
        self.under_way: dict[str, Source] = {}
        self.sending = 0
        self.waiting = len(self.recordings)  # not begun with
        self._begins = True
        self._slots = asyncio.Semaphore(AT_ONCE)

    def begin_no_more(self) -> None:
        """Send no further recordings; those that were sent continue."""
        self._begins = False

    async def outcomes(self) -> AsyncGenerator[Outcome]:
        """Yield the outcome of each recording, in their order."""
        tasks = [
            asyncio.create_task(self._outcome(index, recording))
            for index, recording in enumerate(self.recordings)
        ]
        try:
            for task in tasks:
                yield await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _outcome(self, index: int, recording: Source) -> Outcome:
        async with self._slots:
            self.waiting -= self._begins
            try:
                body = await self._submit(recording)
                if not self.submit_only:
                    body = await self._follow(index, body)
                if error := _fault(body):
                    return Outcome(recording, body, error)
                return Outcome(recording, body, kept=await self.keep(recording, body))
            except NotBegun:
                return Outcome(recording, error="was not sent.")
            except ApiError as error:
                return Outcome(recording, error=str(error))
            except OSError as error:
                return Outcome(recording, error=f"{error.strerror or error}.")
            finally:
                self.told(index, None)

    async def _submit(self, recording: Source) -> Body:
        options = {**self.options, "reference": recording.reference}
        deadline = _now() + BUSY_SECONDS
        while True:
            if not self._begins:
                raise NotBegun
            self.sending += 1
            try:
                body = await self.api.submit(recording.source, options)
            except ApiError as error:
                if error.transcription_id:
                    return await self._accepted(recording, error.transcription_id)
                if error.code not in BUSY_CODES or _now() > deadline:
                    raise
                await asyncio.sleep(error.retry_after or BUSY_PAUSE_SECONDS)
            else:
                self.under_way[body["id"]] = recording
                return body
            finally:
                self.sending -= 1

    async def _accepted(self, recording: Source, job_id: str) -> Body:
        self.under_way[job_id] = recording
        return await self._look(job_id)

    async def _follow(self, index: int, body: Body) -> Body:
        pause = FIRST_POLL_SECONDS
        self.told(index, body)
        while body["status"] not in ENDED:
            await asyncio.sleep(pause)
            pause = min(LAST_POLL_SECONDS, pause * POLL_GROWTH)
            body = await self._look(body["id"])
            self.told(index, body)
        self.under_way.pop(body["id"], None)
        return body

    async def _look(self, job_id: str) -> Body:
        deadline = _now() + AWAY_SECONDS
        while True:
            try:
                return await self.api.transcription(job_id)
            except ApiError as error:
                if not error.retryable or _now() > deadline:
                    raise ApiError(f"{error} The transcription is {job_id}.") from error
                await asyncio.sleep(error.retry_after or BUSY_PAUSE_SECONDS)


def _fault(body: Body) -> str:
    if body["status"] == "cancelled":
        return "was cancelled."
    error = body["error"]
    return f"{error['detail']} ({error['code']}, {body['id']})" if error else ""


def _now() -> float:
    return asyncio.get_running_loop().time()
