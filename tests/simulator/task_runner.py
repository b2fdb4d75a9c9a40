"""Runs tasks: waiting, fetching, transcription, results, charge."""

import asyncio
import math
from typing import Any

from tests.simulator import dashscope, results
from tests.simulator.audio import Audio, measured
from tests.simulator.bill import Bill, Usage
from tests.simulator.calls import Service
from tests.simulator.errors import (
    ApiError,
    failed,
    no_audio,
    no_words,
    nothing_said,
    timed_out,
    too_long,
    undelivered,
)
from tests.simulator.models import TASK_SECONDS
from tests.simulator.orders import Order
from tests.simulator.results import Heard
from tests.simulator.speech import token_count
from tests.simulator.tasks import Subtask, Task, Tasks

FILES = 32  # in memory at once
LISTENERS = 2  # of which so many are decoded
TIMEOUT_SECONDS = 3 * 3600
DIARIZED_SECONDS = 2 * 3600


class TaskRunner:
    """Runs tasks in the background, from PENDING to their end."""

    def __init__(self, service: Service, tasks: Tasks) -> None:
        self._service = service
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()
        self._files = asyncio.Semaphore(FILES)
        self._listeners = asyncio.Semaphore(LISTENERS)

    def start(self, task: Task) -> None:
        running = asyncio.create_task(self._safely(task))
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    def cancel(self, task: Task) -> None:
        self._end(task, "CANCELED")

    async def ended(self) -> None:
        """Wait until every task that runs now has ended."""
        if self._running:
            await asyncio.wait(list(self._running))

    async def close(self) -> None:
        for running in self._running:
            running.cancel()
        await self.ended()

    async def _safely(self, task: Task) -> None:
        """Run a task. An error of the simulator itself is stored and fails the test."""
        try:
            await self._run(task)
        except Exception as failure:  # noqa: BLE001 - the simulator reports any error at its end
            self._service.failures.append(failure)

    async def _run(self, task: Task) -> None:
        clock, delays = self._service.clock, self._tasks.delays
        await clock.sleep_until(task.submitted + self._tasks.drawn(delays.pending))
        if task.status != "PENDING":
            return
        task.status, task.scheduled = "RUNNING", clock.now()
        fate = task.fault.fate if task.fault else None
        if fate == "sticks":
            await clock.sleep_until(task.scheduled + TIMEOUT_SECONDS)
        files = [await self._file(one, task) for one in task.subtasks if _spares(one, task)]
        length = delays.per_audio_second * sum(one.seconds for one in task.subtasks)
        await clock.sleep_until(task.scheduled + self._tasks.drawn(delays.running) + length)
        self._publish(task, [file for file in files if file])
        self._charge(task)

    def _publish(self, task: Task, files: list[tuple[Subtask, bytes]]) -> None:
        for at, (subtask, body) in enumerate(files):
            subtask.result_url = self._service.store.publish(f"{task.id}-{at}", body)
        task.refusal = next((one.refusal for one in task.subtasks if one.refusal), None)
        self._end(task, "SUCCEEDED" if files else "FAILED")

    def _end(self, task: Task, status: Any) -> None:
        task.status, task.ended = status, self._service.clock.now()

    def _charge(self, task: Task) -> None:
        if task.status != "SUCCEEDED":
            return
        call = task.call
        call.line = self._service.bill.charge(
            call.request_id, call.started_at, call.region, call.model, task.usage
        )
        call.line.answered = call.arrived

    async def _file(self, subtask: Subtask, task: Task) -> tuple[Subtask, bytes] | None:
        """Transcribe one file. Return its result, or store the error."""
        try:
            async with self._files:
                data = await self._service.audio(subtask.url, task.model, task.call)
                async with self._listeners:
                    audio = await measured(data, most_seconds=TASK_SECONDS + 1)
                    subtask.seconds = audio.seconds
                    channels = await self._channels(audio, task.order)
        except ApiError as refusal:
            subtask.refusal = refusal
            return None
        subtask.usage = usage_of(task.order, audio, channels, self._service.bill)
        file = results.file_of(subtask.url, audio, channels, task.order)
        return subtask, dashscope.compact(file)

    async def _channels(self, audio: Audio, order: Order) -> list[Heard]:
        _check_length(audio, order)
        present = [one for one in order.channels if one < audio.form.channels]
        if not present:
            raise no_audio()
        found = [await self._heard(audio, order.on(channel)) for channel in present]
        if not any(one.sentences for one in found):
            raise no_words() if order.model.is_3x else nothing_said()
        return found

    async def _heard(self, audio: Audio, order: Order) -> Heard:
        channel = await audio.channel(order.channel)
        return results.heard(await self._service.words.of(channel, order), channel, order)


def _spares(subtask: Subtask, task: Task) -> bool:
    """Apply the fault of a task to its files. Return whether this file is transcribed."""
    fate = task.fault.fate if task.fault else None
    if fate == "fails":
        subtask.refusal = failed()
    if fate == "sticks":
        subtask.refusal = timed_out()
    if fate == "fails-partly" and subtask is task.subtasks[-1]:
        subtask.refusal = undelivered()
    return subtask.refusal is None


def _check_length(audio: Audio, order: Order) -> None:
    diarizes = order.model.is_3x and order.options.get("diarization_enabled") is True
    if audio.seconds > (DIARIZED_SECONDS if diarizes else TASK_SECONDS):
        raise too_long()


def usage_of(order: Order, audio: Audio, channels: list[Heard], bill: Bill) -> Usage:
    """Return the usage of one file: every channel counts; for some models only speech counts."""
    count, tokens = len(channels), (0, 0)
    seconds = math.ceil(round(audio.seconds, 3)) * count
    context = token_count(order.context)
    text = sum(token_count(one.said.text) for one in channels)
    if order.model.is_filetrans:
        seconds = bill.rounded(audio.seconds) * count
    if order.model.is_billed_by_speech:
        seconds = sum(one.speech_seconds for one in channels)
    if order.model.is_31:
        spoken = math.ceil(audio.seconds * dashscope.TOKENS_PER_SECOND_31) * count
        tokens = spoken + context, text
    return Usage(audio.seconds * count, seconds, context, text, *tokens)
