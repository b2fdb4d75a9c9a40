"""Jobs in flight when Ctrl-C or --wait ends `transcribe`: they are cancelled, or left running."""

import asyncio
import sys
from collections.abc import Mapping

from app.cli.signals import Interrupts, prompt
from app.cli.transcribe.batch import Batch
from app.cli.transcribe.progress_bar import ProgressDisplay
from app.cli.transcribe.sources import Source
from app.net.api_client import ApiError

SENDING_SECONDS = 5.0  # for an upload under way to be acknowledged, or it has no id to name
GLANCE_SECONDS = 0.05


async def stop_waiting(
    batch: Batch, screen: ProgressDisplay, interrupts: Interrupts, *, is_own: bool
) -> None:
    """Ask on a terminal whether to cancel the running jobs; otherwise leave them running."""
    screen.hide()
    is_cancelled = await _is_cancelled(batch, interrupts)
    await _acknowledged(batch, screen, interrupts)
    if is_cancelled:
        await _cancel(batch, screen)
    elif batch.under_way:
        screen.line(_left(batch.under_way, is_own=is_own))
    if batch.waiting:
        screen.line(f"{batch.waiting} more were not sent.")


async def _is_cancelled(batch: Batch, interrupts: Interrupts) -> bool:
    count = len(batch.under_way) + batch.sending
    if not count or not interrupts.came or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    jobs = "the job" if count == 1 else f"the {count} jobs"
    question = f"\nCancel {jobs} under way, or leave them running? [c]ancel, [L]eave: "
    answer = await prompt(question, interrupts)
    return answer is not None and answer.startswith("c")


async def _acknowledged(batch: Batch, screen: ProgressDisplay, interrupts: Interrupts) -> None:
    hurried = asyncio.Event()
    interrupts.listener = hurried.set
    deadline = asyncio.get_running_loop().time() + SENDING_SECONDS
    while batch.sending and not hurried.is_set():
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(GLANCE_SECONDS)
    if batch.sending:
        screen.line(
            f"{batch.sending} recordings were still being sent; "
            "`asr-gateway jobs list` shows whether they arrived."
        )


async def _cancel(batch: Batch, screen: ProgressDisplay) -> None:
    for job_id, recording in list(batch.under_way.items()):
        try:
            body = await batch.api.act(job_id, "cancel")
        except ApiError as error:
            screen.line(f"{recording.shown} ({job_id}): {error}")
        else:
            charged = f"{body['charged']['amount']} {body['charged']['currency']}"
            screen.line(f"{recording.shown} ({job_id}): cancelled, charged {charged}.")


def _left(jobs: Mapping[str, Source], *, is_own: bool) -> str:
    listed = ", ".join(f"{job_id} ({recording.shown})" for job_id, recording in jobs.items())
    if is_own:
        return (
            "Stopped waiting. These jobs continue when the gateway runs again "
            f"(`asr-gateway serve`): {listed}."
        )
    return (
        f"Stopped waiting. These jobs are still running: {listed}. "
        "Cancel one with `asr-gateway jobs cancel ID`."
    )
