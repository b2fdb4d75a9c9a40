"""`asr-gateway demo`: start the gateway, transcribe a real recording over HTTP, print the text."""

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from app.cli.connect import gateway_api
from app.cli.errors import CommandFailed
from app.cli.local_gateway import LOOPBACK, spawn, stop, wait_until_ready
from app.cli.transcribe.batch import Batch, Body
from app.cli.transcribe.progress import ProgressTracker
from app.cli.transcribe.progress_bar import ProgressDisplay
from app.cli.transcribe.sources import recordings_of

SAMPLE = Path(__file__).with_name("sample.flac")  # 10 s of LibriVox, public domain; see NOTICE
STUCK_SECONDS = 60.0  # without progress, after which the demo ends


def demo(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    once: Annotated[bool, typer.Option("--once", help="Stop after the transcript.")] = False,
    file: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Recording to transcribe.")
    ] = SAMPLE,
) -> None:
    """Start the gateway, transcribe a recording over HTTP, and keep serving until Ctrl-C."""
    try:
        code = asyncio.run(_demonstrate(port, file, once=once))
    except KeyboardInterrupt:
        code = 0
    raise typer.Exit(code)


async def _demonstrate(port: int, file: Path, *, once: bool) -> int:
    say = partial(print, flush=True)
    url = f"http://{LOOPBACK}:{port}"
    loop = asyncio.get_running_loop()
    reached, reached_at = -1.0, loop.time()
    display = ProgressDisplay(ProgressTracker(1))

    def on_progress(index: int, body: Body | None) -> None:
        nonlocal reached, reached_at
        display.update(index, body)
        if body is None:
            return
        if body["progress"] > reached:
            reached, reached_at = body["progress"], loop.time()
        elif loop.time() - reached_at > STUCK_SECONDS:
            raise CommandFailed(
                f"{body['model']} has made no progress for {STUCK_SECONDS:g} s. Its service may "
                "be busy or not reachable. Run `asr-gateway doctor` to find the cause."
            )

    log_level = os.environ.get("GATEWAY_LOG__LEVEL", "WARNING")
    server = await spawn({"GATEWAY_SERVER__PORT": str(port), "GATEWAY_LOG__LEVEL": log_level})
    try:
        await wait_until_ready(url, server, say)
        async with gateway_api(url) as api:
            batch = Batch(api, recordings_of([str(file)]), {"wait": 0}, on_progress)
            with display:
                [outcome] = [one async for one in batch.outcomes()]
        body = outcome.body
        if outcome.error or body is None:
            raise CommandFailed(outcome.error)
        rows = {
            "transcript": body["text"],
            "language": body["language"],
            "audio": f"{body['audio']['seconds']} s",
            "used": f"{body['usage']['seconds']} s",
            "cost": f"{body['cost']['amount']} {body['cost']['currency']}",
            "job": body["id"],
            "docs": f"{url}/docs",
        }
        say("\n" + "\n".join(f"{name:>10}  {value}" for name, value in rows.items()))
        if once:
            return 0
        say("Serving until Ctrl-C.")
        return await server.wait()
    finally:
        await stop(server)
