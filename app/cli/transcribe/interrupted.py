"""Jobs in flight when Ctrl-C or --wait ends `transcribe`: they are cancelled, or left running."""

import asyncio
import sys

from app.cli.signals import Interrupts, prompt
from app.cli.transcribe.batch import Batch
from app.cli.transcribe.progress_bar import ProgressDisplay
from app.net.api_client import ApiError

SENDING_SECONDS = 5.0  # for an upload in flight to be accepted: before that it has no id
CHECK_SECONDS = 0.05


async def stop_waiting(
    batch: Batch, display: ProgressDisplay, interrupts: Interrupts, *, is_own: bool
) -> None:
    """Ask on a terminal whether to cancel the running jobs; otherwise leave them running."""
    display.hide()
    must_cancel = False
    count = len(batch.under_way) + batch.sending
    if count and interrupts.came and sys.stdin.isatty() and sys.stderr.isatty():
        jobs = "the job" if count == 1 else f"the {count} jobs"
        question = f"\nCancel {jobs} under way, or leave them running? [c]ancel, [L]eave: "
        must_cancel = (await prompt(question, interrupts) or "").startswith("c")
    await _await_uploads(batch, display, interrupts)
    if must_cancel:
        for job_id, recording in list(batch.under_way.items()):
            try:
                cost = (await batch.api.act(job_id, "cancel"))["charged"]
            except ApiError as error:
                result = str(error)
            else:
                result = f"cancelled, charged {cost['amount']} {cost['currency']}."
            display.line(f"{recording.shown} ({job_id}): {result}")
    elif batch.under_way:
        jobs = ", ".join(f"{job_id} ({one.shown})" for job_id, one in batch.under_way.items())
        display.line(
            "Stopped waiting. These jobs continue when the gateway runs again "
            f"(`asr-gateway serve`): {jobs}."
            if is_own
            else f"Stopped waiting. These jobs are still running: {jobs}. "
            "Cancel one with `asr-gateway jobs cancel ID`."
        )
    if batch.waiting:
        display.line(f"{batch.waiting} more were not sent.")


async def _await_uploads(batch: Batch, display: ProgressDisplay, interrupts: Interrupts) -> None:
    """Wait until the uploads in flight have ids, for a few seconds or until the next Ctrl-C."""
    hurried = asyncio.Event()
    interrupts.listener = hurried.set
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SENDING_SECONDS
    while batch.sending and not hurried.is_set() and loop.time() < deadline:
        await asyncio.sleep(CHECK_SECONDS)
    if batch.sending:
        display.line(
            f"{batch.sending} recordings were still being sent; "
            "`asr-gateway jobs list` shows whether they arrived."
        )
