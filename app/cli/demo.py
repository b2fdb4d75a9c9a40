"""`asr-gateway demo`: start the gateway, transcribe a real recording over HTTP, print the text."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.errors import CommandFailed
from app.cli.local_gateway import spawn, stop, until_alive, until_ready
from app.net.client import Client, Response, open_client

SAMPLE = Path(__file__).with_name("sample.flac")  # 10 s of LibriVox, public domain; see NOTICE
ANSWER_SECONDS = 660.0
IDLE_SECONDS = 30  # without any progress, after which something must be in the way


def demo(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    once: Annotated[bool, typer.Option("--once", help="Stop after the transcript.")] = False,
    file: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Recording.")] = SAMPLE,
) -> None:
    """Start the gateway, transcribe a recording over HTTP, and keep serving until Ctrl-C."""
    try:
        code = asyncio.run(_demonstrate(port, file, once=once))
    except CommandFailed as error:
        print(f"\n{error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 0
    raise typer.Exit(code)


async def _demonstrate(port: int, file: Path, *, once: bool) -> int:
    server = await spawn(
        {
            "GATEWAY_SERVER__PORT": str(port),
            "GATEWAY_LOG__LEVEL": os.environ.get("GATEWAY_LOG__LEVEL", "WARNING"),
        }
    )
    base = f"http://127.0.0.1:{port}"
    try:
        headers = _authorization()
        async with open_client(
            base_url=base, headers=headers, silence_seconds=ANSWER_SECONDS, proxies=False
        ) as client:
            await until_alive(client, server)
            await until_ready(client, server, _tell)
            _show(await _transcribe(client, file), base)
        if once:
            return 0
        print("Serving until Ctrl-C.", flush=True)
        return await server.wait()
    finally:
        await stop(server)


def _authorization() -> Mapping[str, str]:
    key = os.environ.get("ASR_GATEWAY_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _tell(words: str) -> None:
    print(words, flush=True)


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
            raise CommandFailed(
                f"{body['model']} has not got any further for {IDLE_SECONDS} s: its service may "
                "be busy, or cannot be reached. `asr-gateway doctor` looks what is in the way."
            )
    if body["error"]:
        raise CommandFailed(f"{body['error']['code']}: {body['error']['detail']}")
    return body


def _read(answer: Response) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    if answer.is_error:
        hint = " Put the key into ASR_GATEWAY_KEY." if body["code"].startswith("key_") else ""
        raise CommandFailed(f"{body['code']}: {body['detail']}{hint}")
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
