"""Runs the jobs of this process: jobs started at once for their callers, and jobs of the queue.

The `transcription` table is authoritative; the state kept here may be lost at any moment.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from app.db.database import Database
from app.errors import DatabaseUnavailable, ShuttingDown, TooManyJobs
from app.jobs.execution.claimed import ClaimedJob
from app.jobs.execution.transcribe import Transcriber
from app.jobs.store.job import JobView
from app.jobs.store.runs import QueuedJob
from app.jobs.worker.lane import Entry, Lane, NoSlot
from app.jobs.worker.queue import JobQueue
from app.jobs.worker.waiters import Waiters
from app.kit.log import log, safe_traceback
from app.kit.priority_semaphore import PrioritySemaphore
from app.settings import JobSettings

RETRY_AFTER_SECONDS = 5
STOPPING_DELAY = timedelta(seconds=1)  # between checks whether a stopped run has ended
UNCLAIMED_SECONDS = 5.0  # for which the view of a completed job is kept for its caller
MAX_HELD = 1_000  # jobs that wait here for their next tick without a slot, besides tasks


class Worker:
    """Runs the jobs of one process. Jobs beyond the slots of their lane wait in the queue."""

    def __init__(self, db: Database, transcriber: Transcriber, settings: JobSettings) -> None:
        self._transcriber = transcriber
        self._settings = settings
        self._works = settings.worker or not db.is_shared
        slots = PrioritySemaphore(settings.max_concurrent_jobs)
        max_held = settings.max_concurrent_jobs + MAX_HELD
        self._jobs = Lane("jobs", partial(self._tick, slots), slots, max_held)
        slots = PrioritySemaphore(settings.max_concurrent_tasks)
        max_held = settings.max_concurrent_tasks
        self._filetrans = Lane("tasks", partial(self._tick, slots), slots, max_held)
        self._queue = JobQueue(db, [self._jobs, self._filetrans])
        self._tasks: dict[str, asyncio.Task[timedelta | None]] = {}
        self._stopped: set[asyncio.Task[timedelta | None]] = set()
        self._requeuing: set[asyncio.Task[None]] = set()
        self._with_caller: set[str] = set()
        self._unclaimed_views: dict[str, JobView] = {}
        self._waiters = Waiters(db, self._tasks.__contains__)
        self._grace_ends_at: float | None = None

    async def open(self) -> None:
        """Begin to take jobs from the queue. Raises DatabaseUnavailable."""
        await self._queue.open(works=self._works)

    @property
    def is_closing(self) -> bool:
        """Whether no more jobs are accepted."""
        return self._grace_ends_at is not None

    def check_capacity(self) -> None:
        """Raise TooManyJobs or ShuttingDown where no job may be accepted now."""
        if self.is_closing:
            raise ShuttingDown(retry_after=RETRY_AFTER_SECONDS)
        if len(self._with_caller) >= self._settings.max_sync_callers:
            raise TooManyJobs(retry_after=RETRY_AFTER_SECONDS)

    def reserve_slot(self, plan_kind: str, *, waits: bool = True) -> bool:
        """Take a slot if one is free, for a job about to be submitted as already claimed.

        Only a job whose caller `waits` is started at once, and none while others wait in the queue,
        as they come first. Raises as `check_capacity` does.
        """
        self.check_capacity()
        is_free = self._works and not self._jobs.is_backlogged
        if not (waits and is_free and self._lane_of(plan_kind) is self._jobs):
            return False
        return self._jobs.slots.try_acquire()

    def free_slot(self) -> None:
        """Release a reserved slot: no job was submitted."""
        self._release(self._jobs.slots)

    async def put(self, jobs: Iterable[QueuedJob], connection: Any = None) -> list[str]:
        """Put jobs into the queue; return the ids of those that were not in it. See JobQueue.put.

        A run of a job from before its retry may still be ending here.
        """
        entries = [
            Entry(self._lane_of(job.plan_kind).name, job.job_id, job.epoch, job.priority)
            for job in jobs
        ]
        return await self._queue.put(entries, connection)

    def begin(self, job_id: str, claimed: ClaimedJob | None, *, waits: bool = True) -> None:
        """Start a created job at once if it is `claimed`, in the slot that was reserved for it.

        A job whose caller `waits` takes capacity (see check_capacity) until it ends or the caller
        has disconnected; for a caller that reads the stream see `listening`.
        """
        if waits:
            self._with_caller.add(job_id)
        if claimed is not None:
            task = self._advance(job_id, claimed, self._jobs.slots)
            task.add_done_callback(partial(self._requeue_deferred, claimed))

    async def cancel_run(self, job_id: str, epoch: int | None = None) -> None:
        """Stop the run of a job that was cancelled or erased, and cancel its tasks where possible.

        Runs later than `epoch` belong to a retry that was requested since, and continue.
        """
        task = self._tasks.get(job_id)
        running = self._transcriber.epoch_of(job_id)
        if task is not None and (epoch is None or (running is not None and running <= epoch)):
            self._stopped.add(task)
            task.cancel()
        self._waiters.wake(job_id)
        await self._transcriber.cancel_upstream(job_id, epoch)

    async def requeue(self, stalled: Iterable[QueuedJob]) -> list[str]:
        """Put jobs without a worker into the queue; return the ids of those not in it."""
        return await self.put(job for job in stalled if job.job_id not in self._tasks)

    async def prune_queue(self) -> None:
        """Delete the queue's own log. Raises DatabaseUnavailable."""
        await self._queue.prune()

    async def wait(
        self, job_id: str, seconds: float, gone: "asyncio.Future[None] | None" = None
    ) -> JobView | bool:
        """Wait until the job has ended, in this process or in another one.

        Returns the completed job where its run passed it on, True where the database has to be
        read, and False after `seconds` or as soon as `gone` is done.
        """
        if (view := self._unclaimed_views.pop(job_id, None)) is not None:
            return view
        try:
            return await self._waiters.wait(job_id, seconds, gone)
        finally:
            self._forget_caller(job_id)

    @contextmanager
    def listening(self, job_id: str) -> Iterator[None]:
        """Count the caller of a job whose answer is its stream among the waiting callers."""
        self._with_caller.add(job_id)
        try:
            with self._waiters.registered(job_id):
                yield
        finally:
            self._forget_caller(job_id)

    def begin_closing(self, seconds: float) -> None:
        """Accept no more jobs, and limit every wait to these seconds."""
        self._grace_ends_at = asyncio.get_running_loop().time() + seconds
        self._queue.stop_taking()
        self._waiters.set_deadline(self._grace_ends_at)

    async def drain(self, seconds: float) -> None:
        """Let jobs run for the rest of the grace period, then hand them back to the queue."""
        if not self.is_closing:
            self.begin_closing(seconds)
        left = (self._grace_ends_at or 0.0) - asyncio.get_running_loop().time()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=max(0.0, left))
        while self._tasks or self._requeuing:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.wait([*self._tasks.values(), *self._requeuing])
        await self._queue.close()

    async def _tick(self, slots: PrioritySemaphore, job_id: str) -> timedelta | None:
        """Advance a job of the queue; see lane.Tick. It is requeued when the grace period ends."""
        if not slots.try_acquire():
            raise NoSlot
        running = self._tasks.get(job_id)
        if self.is_closing or running is not None:
            self._release(slots)
            if self.is_closing:
                return timedelta(0)
            return STOPPING_DELAY if running in self._stopped else None
        task = self._advance(job_id, None, slots)
        await asyncio.wait({task})
        return self._outcome(task, job_id)

    def _requeue_deferred(
        self, claimed: ClaimedJob, task: "asyncio.Task[timedelta | None]"
    ) -> None:
        """Put a claimed job that was deferred into the queue, where it waits."""
        job = claimed.job
        delay = self._outcome(task, job.id)
        if delay is None:
            return
        entry = Entry(self._jobs.name, job.id, job.run.epoch, job.priority, delay)

        async def put() -> None:
            try:
                await self._queue.put([entry])
            except DatabaseUnavailable:
                log.warning("queue.unavailable", job=job.id)  # maintenance puts the job back

        putting = asyncio.create_task(put(), name=f"deferred {job.id}")
        self._requeuing.add(putting)
        putting.add_done_callback(self._requeuing.discard)

    def _advance(
        self, job_id: str, claimed: ClaimedJob | None, slots: PrioritySemaphore
    ) -> "asyncio.Task[timedelta | None]":
        task = asyncio.create_task(self._transcriber.advance(job_id, claimed), name=f"job {job_id}")
        self._tasks[job_id] = task
        task.add_done_callback(lambda _: self._ended(job_id, slots, claimed))
        return task

    def _outcome(self, task: "asyncio.Task[timedelta | None]", job_id: str) -> timedelta | None:
        """Return the delay until a job is advanced again: zero if its run was handed back."""
        if task.cancelled():
            return timedelta(0) if self.is_closing else None
        if (error := task.exception()) is not None:
            log.error("run.not_ended", job=job_id, frames=safe_traceback(error))
            return timedelta(seconds=self._settings.lease_seconds)
        return task.result()

    def _ended(self, job_id: str, slots: PrioritySemaphore, claimed: ClaimedJob | None) -> None:
        self._stopped.discard(self._tasks.pop(job_id))
        self._release(slots)
        view = None if claimed is None else claimed.completed
        self._waiters.wake(job_id, view)
        if self._waiters.has(job_id):
            return
        if view is not None and job_id in self._with_caller:  # the caller has yet to begin its wait
            self._unclaimed_views[job_id] = view
            asyncio.get_running_loop().call_later(
                UNCLAIMED_SECONDS, self._unclaimed_views.pop, job_id, None
            )
        self._with_caller.discard(job_id)

    def _lane_of(self, plan_kind: str) -> Lane:
        """Return the lane of jobs with such a plan: tasks mostly wait, the others mostly work."""
        return self._filetrans if plan_kind == "filetrans" else self._jobs

    def _forget_caller(self, job_id: str) -> None:
        if job_id not in self._tasks and not self._waiters.has(job_id):
            self._with_caller.discard(job_id)

    def _release(self, slots: PrioritySemaphore) -> None:
        slots.release()
        if self._jobs.is_backlogged or self._filetrans.is_backlogged:
            self._queue.wake()
