"""A gateway as a child process on loopback, with the user's own settings and data folder."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from app.cli.errors import CommandFailed
from app.net.client import Client, TransportError, open_client

START_SECONDS = 60.0
STUCK_SECONDS = 60.0  # without a change of the unmet requirements
PAUSE_SECONDS = 0.3
LOOPBACK = "127.0.0.1"
SHOWN_LINES = 3  # the last lines of the log, if the gateway does not start
MAX_LINE_BYTES = 1 << 20

Say = Callable[[str], None]


@asynccontextmanager
async def local_gateway(say: Say | None = None) -> AsyncIterator[str]:
    """Run a gateway on a free port until the block ends; yield its address.

    With `say`, the gateway is ready before the block begins, and unmet requirements are reported.
    It is stopped gracefully: calls in flight may end, and unfinished jobs are kept. Raises
    CommandFailed.
    """
    server = await spawn(
        {
            "GATEWAY_SERVER__PORT": "0",
            "GATEWAY_SERVER__PUBLIC_URL": "",  # a configured URL does not lead to this port
            "GATEWAY_LOG__LEVEL": "INFO",
            "GATEWAY_LOG__FORMAT": "json",
        },
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        limit=MAX_LINE_BYTES,
        process_group=0,  # the terminal's Ctrl-C is for us: we ask before anything stops
    )
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    reading = asyncio.create_task(_read_log(server, listening))
    try:
        try:
            async with asyncio.timeout(START_SECONDS):
                url = f"http://{LOOPBACK}:{await listening}"
        except TimeoutError as error:
            raise CommandFailed("The gateway of this command did not start in time.") from error
        await wait_until_ready(url, server, say)
        yield url
    finally:
        await stop(server)
        await reading


async def spawn(environment: Mapping[str, str], **pipes: Any) -> Process:
    """Start `asr-gateway serve` on loopback with additional environment variables."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app.serve"),
        env={**os.environ, "GATEWAY_SERVER__HOST": LOOPBACK, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        **pipes,
    )


async def wait_until_ready(url: str, server: Process, say: Say | None) -> None:
    """Wait until the gateway answers, and with `say` until its default model is ready.

    Each change of the unmet requirements is reported. Raises CommandFailed if the gateway ends or
    does not answer, or if the unmet requirements have not changed for STUCK_SECONDS.
    """
    async with open_client(base_url=url, proxies=False) as client:
        try:
            async with asyncio.timeout(START_SECONDS):
                while await _status(client, server) is None:
                    await asyncio.sleep(PAUSE_SECONDS)
        except TimeoutError as error:
            raise CommandFailed("The gateway was started but does not answer.") from error
        if say is None:
            return
        reported, since = "", asyncio.get_running_loop().time()
        while (status := await _status(client, server)) is not None and not status["ready"]:
            unmet = "; ".join(check["unmet"] for check in status["checks"] if not check["ready"])
            now = asyncio.get_running_loop().time()
            if unmet != reported:
                say(f"Not ready yet: {unmet}")
                reported, since = unmet, now
            elif now - since > STUCK_SECONDS:
                raise CommandFailed(
                    f"The gateway does not become ready: {unmet}. "
                    "Run `asr-gateway doctor` to find the cause."
                )
            await asyncio.sleep(PAUSE_SECONDS)


async def stop(server: Process) -> None:
    """End the gateway as SIGTERM does. Cancelling this call ends the gateway at once."""
    if server.returncode is not None:
        return
    server.send_signal(signal.SIGTERM)
    try:
        await server.wait()
    except asyncio.CancelledError:
        server.kill()
        await server.wait()
        raise


async def _status(client: Client, server: Process) -> dict[str, Any] | None:
    if server.returncode is not None:
        raise CommandFailed("The gateway did not start; its messages above say why.")
    try:
        answer: dict[str, Any] = (await client.get("/readyz")).json()
    except TransportError:
        return None
    return answer


async def _read_log(server: Process, listening: asyncio.Future[int]) -> None:
    """Read the log of the gateway to its end; set `listening` to its port, or to CommandFailed."""
    if server.stderr is None:
        return
    last_lines: deque[str] = deque(maxlen=SHOWN_LINES)
    async for line in server.stderr:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            last_lines.append(line.decode(errors="replace").strip())
        elif event.get("event") == "server.listening" and not listening.done():
            listening.set_result(event["port"])
    if not listening.done():
        reason = " ".join(filter(None, last_lines)) or "The gateway of this command did not start."
        listening.set_exception(CommandFailed(reason))
