"""Settings of jobs and of their event streams."""

from typing import Literal

from pydantic import Field

from app.settings.group import HOUR, MIB, SettingsGroup


class JobSettings(SettingsGroup):
    lease_seconds: float = Field(
        30.0, ge=1, description="Seconds until another run may claim the job of a silent worker."
    )
    maintenance_interval_seconds: float = Field(
        60.0, ge=0.1, description="Seconds between two rounds of maintenance."
    )
    worker: bool = Field(
        default=True, description="Run jobs, and not only the API. Always true with SQLite."
    )
    max_concurrent_jobs: int = Field(32, ge=1, description="Maximum concurrent jobs.")
    max_concurrent_tasks: int = Field(
        5000, ge=1, description="Maximum file transcription tasks in flight."
    )
    max_concurrent_parts: int = Field(
        16, ge=1, le=1000, description="Maximum parts of one job in flight."
    )
    audio_buffer_bytes: int = Field(
        64 * MIB, ge=1, description="Maximum decoded audio in memory, of all jobs of this process."
    )
    max_sync_callers: int = Field(
        500, ge=1, description="Maximum jobs whose callers wait. Further ones receive 429."
    )
    wait_seconds: int = Field(
        600, ge=1, le=HOUR, description="Seconds that a synchronous caller waits."
    )
    call_timeout_seconds: float = Field(
        900.0, gt=0, description="Timeout of one call, including its admission."
    )
    retry_timeout_seconds: float = Field(
        3600.0, ge=0, description="Seconds that a job waits for a provider that is down or busy."
    )
    in_doubt: Literal["retry", "fail"] = Field(
        "retry", description="Repeat a call whose answer was lost, or fail the job."
    )
    task_timeout_seconds: float = Field(11_700.0, gt=0, description="Timeout of one task.")
    poll_interval_seconds: float = Field(
        2.0, gt=0, description="First interval between two polls of a task."
    )
    max_poll_interval_seconds: float = Field(
        20.0, gt=0, description="Longest interval, if few tasks wait."
    )
    max_concurrent_submits: int = Field(
        16, ge=1, description="Maximum concurrent submissions of tasks."
    )


class StreamSettings(SettingsGroup):
    heartbeat_seconds: float = Field(
        15.0, gt=0, description="Seconds between comments of an idle stream."
    )
    retry_seconds: float = Field(1.0, ge=0, description="Delay before a client reconnects.")
    poll_seconds: float = Field(
        0.4, gt=0, description="Interval between reads of other processes' events."
    )
    token_seconds: int = Field(300, ge=10, le=HOUR, description="Lifetime of a stream token.")
