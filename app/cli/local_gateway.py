"""A gateway as this command's child on loopback, with the user's own settings and data folder."""

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
STUCK_SECONDS = 60.0  # without any progress towards being ready
PAUSE_SECONDS = 0.3
LOOPBACK = "127.0.0.1"
KEPT_LINES = 3  # of what it said last, should it not start
MOST_LINE_BYTES = 1 << 20

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
        limit=MOST_LINE_BYTES,
        process_group=0,  # the terminal's Ctrl-C is for us: we ask before anything stops
    )
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    reading = asyncio.create_task(_read_log(server, listening))
    try:
        port = await _port_of(listening)
        async with open_client(base_url=f"http://{LOOPBACK}:{port}", proxies=False) as client:
            await until_alive(client, server)
            if say is not None:
                await until_ready(client, server, say)
        yield f"http://{LOOPBACK}:{port}"
    finally:
        await stop(server)
        await reading


async def spawn(environment: Mapping[str, str], **pipes: Any) -> Process:
    """Start `asr-gateway serve` on loopback with more environment, nothing awaited yet."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app.serve"),
        env={**os.environ, "GATEWAY_SERVER__HOST": LOOPBACK, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        **pipes,
    )


async def until_alive(client: Client, server: Process) -> None:
    """Wait until the gateway answers. Raises CommandFailed where it ends instead."""
    try:
        async with asyncio.timeout(START_SECONDS):
            while await _status(client, server) is None:
                await asyncio.sleep(PAUSE_SECONDS)
    except TimeoutError as error:
        raise CommandFailed("The gateway was started but does not answer.") from error


async def until_ready(client: Client, server: Process, say: Say) -> None:
    """Wait until the default model is ready; report each change of its unmet requirements.

    Raises CommandFailed when nothing has changed for STUCK_SECONDS.
    """
    told, since = "", asyncio.get_running_loop().time()
    while (status := await _status(client, server)) is not None and not status["ready"]:
        missing = "; ".join(c["unmet"] for c in status["checks"] if not c["ready"])
        now = asyncio.get_running_loop().time()
        if missing != told:
            say(f"Not ready yet: {missing}")
            told, since = missing, now
        elif now - since > STUCK_SECONDS:
            raise CommandFailed(
                f"The gateway does not get ready: {missing}; "
                "`asr-gateway doctor` looks for what is in the way."
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
        raise CommandFailed("The gateway did not start; its own words are above.")
    try:
        answer: dict[str, Any] = (await client.get("/readyz")).json()
    except TransportError:
        return None
    return answer


async def _port_of(listening: asyncio.Future[int]) -> int:
    try:
        async with asyncio.timeout(START_SECONDS):
            return await listening
    except TimeoutError as error:
        raise CommandFailed("The gateway of this command did not start in time.") from error


async def _read_log(server: Process, listening: asyncio.Future[int]) -> None:
    """Read the child's log to its end, so that it never blocks; tell the port, or why none came."""
    if server.stderr is None:
        return
    said: deque[str] = deque(maxlen=KEPT_LINES)
    async for line in server.stderr:
        event = _event(line)
        if event is None:
            said.append(line.decode(errors="replace").strip())
        elif event.get("event") == "server.listening" and not listening.done():
            listening.set_result(event["port"])
    if not listening.done():
        reason = " ".join(filter(None, said)) or "The gateway of this command did not start."
        listening.set_exception(CommandFailed(reason))


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
