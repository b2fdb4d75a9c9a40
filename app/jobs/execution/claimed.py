"""A created and claimed job, together with the data that its run would otherwise read again."""

from dataclasses import dataclass, replace
from datetime import datetime

from app.billing.ledger import BilledUsage, JobTotals
from app.jobs.store.job import Job, JobView
from app.jobs.store.outcome import Completion
from app.jobs.upstream.caller import FirstCall


@dataclass(eq=False, slots=True)
class ClaimedJob:
    """A claimed job.

    `received` is the audio as it was received, while it is still in memory. `first_call` is the
    upstream call that was recorded with the job. `created` is the job as the API shows it after
    its creation, `completed` the same after its completion; both are None where the database has
    to be read for it.
    """

    job: Job
    received: bytes | None = None
    first_call: FirstCall | None = None
    created: JobView | None = None
    completed: JobView | None = None

    def note_completed(
        self, completion: Completion, used: BilledUsage | None, *, now: datetime
    ) -> None:
        """Derive `completed` from the rows that were written: the first call was the only one."""
        call, created = self.first_call, self.created
        if call is None or created is None or used is None or not call.was_only_call:
            return
        self.completed = replace(
            created,
            status="completed",
            warnings=completion.all_warnings(self.job),
            done_ms=completion.done_ms,
            completed_at=now,
            totals=JobTotals(
                held=call.held_nano,
                settled=used.nano,
                released=max(0, call.held_nano - used.nano),
                used_ms=used.millis,
                used_tokens=used.tokens,
                estimates=int(used.estimated),
            ),
            transcript=completion.transcript,
        )
