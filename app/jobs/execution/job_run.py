"""One run of one job: its parts are transcribed, committed one at a time, and merged at the end.

A direct job that is sent as received has one part; a split job has many. Both use this module.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from app.audio.splitting.detectors import Detectors
from app.db.database import Database
from app.jobs.execution.claimed import ClaimedJob
from app.jobs.execution.commit_part import (
    PartOutcome,
    ProgressUpdate,
    commit_completion,
    commit_part,
)
from app.jobs.execution.progress import Progress
from app.jobs.store import outcome
from app.jobs.store.calls import AlreadyCommittedError, Answered
from app.jobs.store.durable_write import retry_write, shielded
from app.jobs.store.outcome import Completion
from app.jobs.store.parts import PartSpan
from app.jobs.upstream.call_permit import CallPermit
from app.jobs.upstream.caller import PartCall, UpstreamCaller
from app.kit.clock import Clock
from app.speech.engine import PartAudio, Pcm

SMALL_TEXT_CHARACTERS = 4_000  # texts up to here are merged on the event loop, in microseconds


class JobRun:
    """The run's progress and its commits."""

    def __init__(
        self, claimed: ClaimedJob, db: Database, caller: UpstreamCaller, *, clock: Clock
    ) -> None:
        self.job = claimed.job
        self.progress = Progress(claimed.job)
        self.caller = caller
        self.first_call = claimed.first_call
        self._claimed = claimed
        self._db = db
        self._now = clock
        self._committing = asyncio.Lock()

    async def commit(
        self, span: PartSpan, part_outcome: PartOutcome, answered: Answered | None
    ) -> None:
        """Commit the outcome of a part; the commit of the last part ends the job."""
        progress = self.progress
        async with self._committing:  # the events of a commit depend on the commits before it
            progress.record(span, part_outcome)
            update = progress.take_update()
            completion = progress.completion(await self._merged()) if progress.is_complete else None
            now, used = self._now(), None
            async with self.job.run.live_text.closing_parts(update.texts) as rests:
                with suppress(AlreadyCommittedError):
                    used = await retry_write(
                        self._db,
                        commit_part,
                        self.job,
                        part_outcome,
                        answered,
                        update.with_live_text(rests),
                        completion,
                        now=now,
                    )
            progress.mark_stored(span)
            if completion is not None:
                progress.ended = True
                self._claimed.note_completed(completion, used, now=now)

    async def finish(self) -> None:
        """End a job whose last part was committed before it was known to be the last.

        Raises GatewayError where no part of the job has text.
        """
        if self.progress.ended:
            return
        if (error := self.progress.failure_reason) is not None:
            raise error
        update = self.progress.take_update()
        await shielded(self._complete(update, self.progress.completion(await self._merged())))

    async def _complete(self, update: ProgressUpdate, completion: Completion) -> None:
        async with self.job.run.live_text.closing_parts(update.texts) as rests:
            await retry_write(
                self._db,
                commit_completion,
                self.job,
                update.with_live_text(rests),
                completion,
                now=self._now(),
            )

    async def _merged(self) -> Mapping[str, Any]:
        texts = self.progress.texts
        if sum(len(part.text) for part in texts) <= SMALL_TEXT_CHARACTERS:
            return outcome.merged(texts)
        return await asyncio.to_thread(outcome.merged, texts)


@dataclass(eq=False, slots=True)
class PartRun:
    """One part with its audio in the form that the engine takes.

    `decode` returns the part's PCM, should it have to be cut in halves, and `detectors` find the
    pause to cut it in. `fallback` returns the
    same audio decoded, should the engine reject the format in which it was received.
    """

    run: JobRun
    span: PartSpan
    audio: PartAudio
    decode: Callable[[], Awaitable[bytes]]
    detectors: Detectors
    permit: CallPermit
    fallback: Callable[[], Awaitable[Pcm]] | None = None

    @property
    def partial_result(self) -> Mapping[str, Any] | None:
        """Answers of an earlier run that are paid for and not the part's last."""
        return self.run.progress.partial_result_of(self.span)

    async def call(self, span: PartSpan, audio: PartAudio) -> Answered:
        """Call an engine for the whole part, or for a half of it."""
        is_whole = span is self.span
        # The text of a half is published with the whole part: another call's text came before.
        sink = self.run.job.run.live_text.part(span.index) if is_whole else None
        fallback = self.fallback if is_whole else None
        unstored = self.run.progress.unstored(self.span)
        first = self.run.first_call if is_whole else None
        call = PartCall(self.run.job, span, unstored, self.permit, sink, first)
        return await self.run.caller.call(call, audio, fallback)

    async def commit(self, part_outcome: PartOutcome, answered: Answered | None) -> None:
        """Commit the part's outcome; a cancelled run completes the commit."""
        await self.run.commit(self.span, part_outcome, answered)
        self.permit.ended()
