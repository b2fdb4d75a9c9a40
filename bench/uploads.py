"""Memory growth of the gateway during large uploads, eight at the same time.

python -m bench.uploads [--clients 8] [--bytes 1000000000]

Growth is measured from the first byte until the last upload is a durable job (its 202), and then
again while those jobs run: decoding happens in child processes, but the search for speech happens
in the gateway's process. Jobs start as soon as they are durable, so with more concurrent jobs the
first figure contains part of the second.
"""

import argparse
import asyncio
import shutil
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from tests.support.process import GatewayProcess

GB = 1_000_000_000
MIB = 1 << 20
MOST_GROWTH_BYTES = 64 * MIB
BLOCK_BYTES = 256 * 1024
SAMPLE_RATE = 16_000
SPARE_BYTES = 4 * GB  # free space besides the uploads
RUNNING_SECONDS = 30.0
TIMEOUT_SECONDS = 900.0
SMALL_BYTES = 2 * MIB  # of a job that warms the process up: decoder, speech model, threads
WARM_SECONDS = 60
RESET_PEAK = "5"  # value for /proc/PID/clear_refs that resets VmHWM
BOUNDARY = "gateway-bench"
HEAD = (
    f"--{BOUNDARY}\r\n"
    'Content-Disposition: form-data; name="wait"\r\n\r\n%d\r\n'
    f"--{BOUNDARY}\r\n"
    'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n'
    "Content-Type: audio/wav\r\n\r\n"
)
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()


def main() -> int:
    asked = arguments()
    folder = Path(tempfile.mkdtemp(prefix="gateway-uploads-"))
    try:
        needed = asked.clients * asked.bytes + SPARE_BYTES
        free = shutil.disk_usage(folder).free
        if free < needed:
            sys.exit(f"{needed / GB:.0f} GB of disk are needed, {free / GB:.0f} GB are free")
        settings = {"JOBS__MAX_CONCURRENT_JOBS": str(asked.at_once)}
        gateway = GatewayProcess(folder, f"sqlite:///{folder / 'gateway.db'}", 0.0, settings)
        with gateway.gone_at_the_end():
            return asyncio.run(measure(gateway, asked.clients, asked.bytes))
    finally:
        shutil.rmtree(folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--bytes", type=int, default=GB)
    parser.add_argument("--at-once", type=int, default=1, help="jobs that run at once")
    return parser.parse_args()


async def measure(gateway: GatewayProcess, clients: int, size: int) -> int:
    await asyncio.to_thread(gateway.start)
    memory = Memory(gateway.pid)
    limits = httpx.Limits(max_connections=clients + 1)
    async with httpx.AsyncClient(
        base_url=gateway.url, timeout=TIMEOUT_SECONDS, limits=limits
    ) as client:
        await forget(client, [await upload(client, SMALL_BYTES, 0, wait=WARM_SECONDS)])
        memory.begin()
        started = time.monotonic()
        jobs = await asyncio.gather(*(upload(client, size, n + 1) for n in range(clients)))
        took = time.monotonic() - started
        growth = memory.growth()
        rate = clients * size / 1e6 / took
        print(f"uploads: {clients} x {size / GB:.2f} GB in {took:.0f} s, {rate:.0f} MB/s")
        print(f"  until the last 202: {memory.line()}")
        memory.begin()
        await asyncio.sleep(RUNNING_SECONDS)
        print(f"  {RUNNING_SECONDS:.0f} s of running jobs: {memory.line()}")
        await forget(client, jobs)
    return int(growth >= MOST_GROWTH_BYTES)


class Memory:
    """The resident memory of one process, from the kernel."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self._baseline = 0

    def begin(self) -> None:
        """Reset the peak: growth is measured against the present resident memory."""
        (self._folder / "clear_refs").write_text(RESET_PEAK)
        self._baseline = self._bytes("VmRSS")

    def growth(self) -> int:
        return self._bytes("VmHWM") - self._baseline

    def line(self) -> str:
        baseline, growth = self._baseline / MIB, self.growth() / MIB
        return f"baseline {baseline:.0f} MiB, peak {baseline + growth:.0f}, growth {growth:.1f}"

    def _bytes(self, name: str) -> int:
        for line in (self._folder / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise LookupError(name)


async def upload(client: httpx.AsyncClient, size: int, number: int, *, wait: int = 0) -> str:
    answer = await client.post(
        "/v1/transcriptions",
        content=form(size, number, wait),
        headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
    )
    return str(answer.raise_for_status().json()["id"])


async def form(size: int, number: int, wait: int) -> AsyncIterator[bytes]:
    """Yield a form with a WAV of this size. Each number gives other bytes."""
    yield (HEAD % wait).encode()
    yield wav_head(size)
    block = bytes([number, 0] * (BLOCK_BYTES // 2))
    for start in range(0, size, BLOCK_BYTES):
        yield block[: size - start]
    yield TAIL


def wav_head(size: int) -> bytes:
    bytes_a_second = SAMPLE_RATE * 2
    form_chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SAMPLE_RATE, bytes_a_second, 2, 16)
    head = struct.pack("<4sI4s", b"RIFF", size + 36, b"WAVE")
    return head + form_chunk + struct.pack("<4sI", b"data", size)


async def forget(client: httpx.AsyncClient, jobs: list[str]) -> None:
    for job in jobs:
        (await client.delete(f"/v1/transcriptions/{job}")).raise_for_status()


if __name__ == "__main__":
    sys.exit(main())
