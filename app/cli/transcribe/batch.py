"""Sends many recordings, a few at a time, and follows each to its end."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.cli.transcribe.sources import Recording
from app.net.api_client import ApiError, GatewayApi

MAX_CONCURRENT = 8
FIRST_POLL_SECONDS, LAST_POLL_SECONDS, POLL_GROWTH = 0.2, 2.0, 1.3
BUSY_SECONDS = 600.0  # during which a busy gateway is asked again
BUSY_PAUSE_SECONDS = 2.0
AWAY_SECONDS = 60.0  # during which a restarting gateway is asked again
# Not a broken connection: the recording may have been accepted, and would be paid for twice.
BUSY_CODES = frozenset({"too_many_jobs", "shutting_down", "database_unavailable"})
ENDED = frozenset({"completed", "failed", "cancelled"})

Body = dict[str, Any]


class NotBegun(Exception):
    """The recording was not sent, because the batch was stopped before its turn."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a recording; `error` is a sentence if there is no transcript."""

    recording: Recording
    body: Body | None = None
    error: str = ""
    saved: Any = None


@dataclass
class Batch:
    """Recordings to send, and the calls that report their progress.

    `on_progress` is called with the index of a recording and the API's latest answer, None at its
    end. `save` is called with each completed transcription; its return value is in the outcome.
    """

    api: GatewayApi
    recordings: Sequence[Recording]
    options: Mapping[str, Any]
    on_progress: Callable[[int, Body | None], None]
    save: Callable[[Recording, Body], Awaitable[Any]] | None = None
    submit_only: bool = False

    def __post_init__(self) -> None:
        self.under_way: dict[str, Recording] = {}
        self.sending = 0
        self.waiting = len(self.recordings)  # not sent yet
        self._begins = True
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)

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

    async def _outcome(self, index: int, recording: Recording) -> Outcome:
        async with self._slots:
            self.waiting -= self._begins
            try:
                body = await self._submit(recording)
                if not self.submit_only:
                    body = await self._follow(index, body)
                if body["status"] == "cancelled":
                    return Outcome(recording, body, "was cancelled.")
                if error := body["error"]:
                    reason = f"{error['detail']} ({error['code']}, {body['id']})"
                    return Outcome(recording, body, reason)
                saved = await self.save(recording, body) if self.save else None
                return Outcome(recording, body, saved=saved)
            except NotBegun:
                return Outcome(recording, error="was not sent.")
            except ApiError as error:
                return Outcome(recording, error=str(error))
            except OSError as error:
                return Outcome(recording, error=f"{error.strerror or error}.")
            finally:
                self.on_progress(index, None)

    async def _submit(self, recording: Recording) -> Body:
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
                    self.under_way[error.transcription_id] = recording
                    return await self._fetch(error.transcription_id)
                if error.code not in BUSY_CODES or _now() > deadline:
                    raise
                await asyncio.sleep(error.retry_after or BUSY_PAUSE_SECONDS)
            else:
                self.under_way[body["id"]] = recording
                return body
            finally:
                self.sending -= 1

    async def _follow(self, index: int, body: Body) -> Body:
        pause = FIRST_POLL_SECONDS
        self.on_progress(index, body)
        while body["status"] not in ENDED:
            await asyncio.sleep(pause)
            pause = min(LAST_POLL_SECONDS, pause * POLL_GROWTH)
            body = await self._fetch(body["id"])
            self.on_progress(index, body)
        self.under_way.pop(body["id"], None)
        return body

    async def _fetch(self, job_id: str) -> Body:
        deadline = _now() + AWAY_SECONDS
        while True:
            try:
                return await self.api.transcription(job_id)
            except ApiError as error:
                if not error.retryable or _now() > deadline:
                    raise ApiError(f"{error} The transcription is {job_id}.") from error
                await asyncio.sleep(error.retry_after or BUSY_PAUSE_SECONDS)


def _now() -> float:
    return asyncio.get_running_loop().time()
