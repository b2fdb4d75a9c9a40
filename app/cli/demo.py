"""`asr-gateway demo`: start the gateway, send it a real recording over HTTP, print what came."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from app.net.client import Client, Response, TransportError, open_client

SAMPLE = Path(__file__).with_name("sample.flac")  # 10 s of LibriVox, public domain; see NOTICE
START_SECONDS = 60.0
READY_SECONDS = 1800.0  # a model of 145 MB over a slow line
ANSWER_SECONDS = 660.0
IDLE_SECONDS = 30  # without any progress, after which something must be in the way
PAUSE_SECONDS = 0.3


class DemoError(Exception):
    """The demonstration cannot go on; the words say why."""


def demo(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    once: Annotated[bool, typer.Option("--once", help="Stop after the transcript.")] = False,
    file: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Recording.")] = SAMPLE,
) -> None:
    """Start the gateway, transcribe a recording over HTTP, and keep serving until Ctrl-C."""
    try:
        code = asyncio.run(_demonstrate(port, file, once=once))
    except DemoError as error:
        print(f"\n{error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 0
    raise typer.Exit(code)


async def _demonstrate(port: int, file: Path, *, once: bool) -> int:
    environment = {
        **os.environ,
        "GATEWAY_SERVER__HOST": "127.0.0.1",
        "GATEWAY_SERVER__PORT": str(port),
        "GATEWAY_LOG__LEVEL": os.environ.get("GATEWAY_LOG__LEVEL", "WARNING"),
    }
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.serve", env=environment
    )
    base = f"http://127.0.0.1:{port}"
    try:
        headers = _authorization()
        async with open_client(
            base_url=base, headers=headers, silence_seconds=ANSWER_SECONDS
        ) as client:
            await _until_alive(client, server)
            await _until_ready(client, server)
            _show(await _transcribe(client, file), base)
        if once:
            return 0
        print("Serving until Ctrl-C.", flush=True)
        return await server.wait()
    finally:
        await _stop(server)


def _authorization() -> Mapping[str, str]:
    key = os.environ.get("ASR_GATEWAY_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


async def _until_alive(client: Client, server: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(START_SECONDS):
        while await _status(client, server) is None:
            await asyncio.sleep(PAUSE_SECONDS)


async def _until_ready(client: Client, server: asyncio.subprocess.Process) -> None:
    """Wait until the gateway is ready, telling what is still missing."""
    told = ""
    async with asyncio.timeout(READY_SECONDS):
        while (status := await _status(client, server)) is not None and not status["ready"]:
            missing = "; ".join(c["missing"] for c in status["checks"] if not c["ready"])
            if missing != told:
                print(f"Not ready yet: {missing}", flush=True)
                told = missing
            await asyncio.sleep(PAUSE_SECONDS)


async def _status(client: Client, server: asyncio.subprocess.Process) -> dict[str, Any] | None:
    if server.returncode is not None:
        raise DemoError("The gateway did not start; its own words are above.")
    try:
        answer: dict[str, Any] = (await client.get("/readyz")).json()
    except TransportError:
        return None
    return answer


async def _transcribe(client: Client, file: Path) -> dict[str, Any]:
    content = await asyncio.to_thread(file.read_bytes)
    files, wait = {"file": ("recording", content)}, {"wait": str(IDLE_SECONDS)}
    body = _read(await client.post("/v1/transcriptions", files=files, data=wait))
    while body["status"] not in {"completed", "failed", "cancelled"}:
        done = body["progress"]
        print(f"{done:.0%} done", flush=True)
        await asyncio.sleep(IDLE_SECONDS)
        body = _read(await client.get(f"/v1/transcriptions/{body['id']}"))
        if body["progress"] == done:
            raise DemoError(
                f"{body['model']} has not got any further for {IDLE_SECONDS} s: its service may "
                "be busy, or cannot be reached. `asr-gateway doctor` looks what is in the way."
            )
    if body["error"]:
        raise DemoError(f"{body['error']['code']}: {body['error']['detail']}")
    return body


def _read(answer: Response) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    if answer.is_error:
        hint = " Put the key into ASR_GATEWAY_KEY." if body["code"].startswith("key_") else ""
        raise DemoError(f"{body['code']}: {body['detail']}{hint}")
    return body


def _show(answer: Mapping[str, Any], base: str) -> None:
    cost = answer["cost"]
    rows = {
        "transcript": answer["text"],
        "language": answer["language"],
        "audio": f"{answer['audio']['seconds']} s",
        "used": f"{answer['usage']['seconds']} s",
        "cost": f"{cost['amount']} {cost['currency']}",
        "job": answer["id"],
        "docs": f"{base}/docs",
    }
    print("\n" + "\n".join(f"{name:>10}  {value}" for name, value in rows.items()), flush=True)


async def _stop(server: asyncio.subprocess.Process) -> None:
    if server.returncode is None:
        server.send_signal(signal.SIGTERM)
        await server.wait()
