"""Audio in which every second carries a number: no second is lost, repeated or exchanged.

python -m bench.counting [--recordings 1000] [--at-once 6] [--seed N]

Audio of 1 to 900 s (log-uniform), as WAV, FLAC and MP3, is sent to a real `asr-gateway serve`
before a simulator that answers with the numbers in the audio. Each recording is a span of one long
shuffled sequence in which every number occurs once, so a lost or repeated second is detected.
"""

import argparse
import asyncio
import math
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
import imageio_ffmpeg

from tests.simulator import ProviderSimulator
from tests.simulator.counting import NUMBERS, Second, encode, joined, read
from tests.support.job_records import JobRecords, read_rows
from tests.support.process import GatewayProcess
from tests.support.simulated_gateway import fast_catalogue

LONGEST_SECONDS, LONG_SECONDS, LEAST_LONG = 900, 600, 20
FORMS = ("wav", "wav", "flac", "mp3")  # WAV twice: it costs us nothing to make
HEADER_BYTES, BYTES_PER_SECOND = 44, 32_000
PAUSE_EVERY = 7
ANSWER_SECONDS = 900.0
SHOWN = 20
SAID_EVERY = 100
SERVE = ("-m", "app.cli.main", "serve")


def main() -> int:
    asked = arguments()
    with tempfile.TemporaryDirectory(prefix="gateway-counting-") as folder:
        trial = Trial(Path(folder), asked.recordings, asked.seed, asked.at_once)
        asyncio.run(trial.run())
    print(f"seed {asked.seed}: {trial.line()}", flush=True)
    for violation in trial.violations[:SHOWN]:
        print(f"VIOLATION {violation}")
    return 1 if trial.violations else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=1_000)
    parser.add_argument("--at-once", type=int, default=6)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    return parser.parse_args()


@dataclass(frozen=True)
class CountedSpan:
    """One recording: seconds `start` to `start + length` of the long sequence, in a file format."""

    start: int
    length: int
    form: str


@dataclass
class Trial:
    folder: Path
    recordings: int
    seed: int
    at_once: int
    violations: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    async def run(self) -> None:
        """Send everything, compare each answer, then the bill."""
        started = time.monotonic()
        self.numbers = Random(self.seed).sample(range(NUMBERS), NUMBERS)
        self.whole = encode(self.numbers, pause_every=PAUSE_EVERY)[HEADER_BYTES:]
        async with ProviderSimulator(seed=self.seed) as simulator:
            gateway = self._gateway(simulator)
            with gateway.gone_at_the_end():
                await asyncio.to_thread(gateway.start)
                await self._send_all(gateway.url)
                await asyncio.to_thread(gateway.stop)
            await self._compare_bill(simulator, gateway.database_url)
        self.seconds = time.monotonic() - started

    def _gateway(self, simulator: ProviderSimulator) -> GatewayProcess:
        settings = {
            "SPEECH__CATALOGUE": str(fast_catalogue(self.folder)),
            "SPEECH__DEFAULT_MODEL": "qwen3-asr-flash",
            "DASHSCOPE__API_KEY": simulator.key,
            "DASHSCOPE__BASE_URL": f"{simulator.url}/api/v1",
            "LOCAL__ENABLED": "false",
        }
        url = f"sqlite:///{self.folder / 'gateway.db'}"
        return GatewayProcess(self.folder, url, settings=settings, command=SERVE)

    async def _send_all(self, url: str) -> None:
        spans = iter(list(drawn(Random(self.seed), self.recordings)))
        async with httpx.AsyncClient(base_url=url, timeout=ANSWER_SECONDS) as client:

            async def sender() -> None:
                for span in spans:
                    await self._count(client, span)

            await asyncio.gather(*(sender() for _ in range(self.at_once)))

    async def _count(self, client: httpx.AsyncClient, span: CountedSpan) -> None:
        """Send one recording, compare its text, and delete it to save disk space."""
        pcm = self.whole[span.start * BYTES_PER_SECOND :][: span.length * BYTES_PER_SECOND]
        sound = await asyncio.to_thread(formed, pcm, span.form)
        answer = await client.post(
            "/v1/transcriptions", files={"file": (f"a.{span.form}", sound)}, data={"wait": "850"}
        )
        body = answer.json()
        self._note(span)
        if body.get("status") != "completed":
            self.violations.append(f"{span}: {answer.status_code} {body.get('code')}")
            return
        self.figures["usage"] += body["usage"]["seconds"]
        said = self.numbers[span.start : span.start + span.length]
        self._compare(span, said, list(joined(heard(body))))
        await client.delete(f"/v1/transcriptions/{body['id']}")

    def _note(self, span: CountedSpan) -> None:
        self.figures[span.form] += 1
        self.figures["seconds"] += span.length
        self.figures["long"] += span.length > LONG_SECONDS
        self.figures["done"] += 1
        if self.figures["done"] % SAID_EVERY == 0:
            print(f"  {self.figures['done']}, {len(self.violations)} violations", flush=True)

    def _compare(self, span: CountedSpan, said: list[int], got: list[Second]) -> None:
        whole = Counter(second.number for second in got if second.is_whole)
        lost, doubled = Counter(said) - whole, whole - Counter(said)
        scraps = [str(second) for second in got if not second.is_whole]
        in_order = [number for number in said if whole[number]]
        swapped = sum(
            second.number != number
            for second, number in zip((s for s in got if s.is_whole), in_order, strict=False)
        )
        self.figures.update(lost=lost.total(), doubled=doubled.total(), swapped=swapped)
        if lost or doubled or swapped or scraps:
            told = f"lost {list(lost)[:5]}, doubled {list(doubled)[:5]}, swapped {swapped}"
            self.violations.append(f"{span}: {told}, scraps {scraps[:5]}")

    async def _compare_bill(self, simulator: ProviderSimulator, database_url: str) -> None:
        records = JobRecords(await read_rows(database_url))
        billed, settled = simulator.bill.seconds(), records.settled_seconds
        self.figures.update(parts=len(simulator.calls), billed=billed, settled=round(settled))
        if not billed == settled == self.figures["usage"]:
            used = self.figures["usage"]
            self.violations.append(f"billed {billed} s, settled {settled}, answered {used}")
        if self.recordings >= 1_000 and self.figures["long"] < LEAST_LONG:
            self.violations.append(f"only {self.figures['long']} recordings are long")

    def line(self) -> str:
        found = self.figures
        forms = ", ".join(f"{found[form]} {form}" for form in dict.fromkeys(FORMS))
        return (
            f"{found['done']} recordings ({forms}), {found['seconds'] / 3600:.2f} h, "
            f"{found['long']} longer than {LONG_SECONDS} s, {found['parts']} parts; seconds lost "
            f"{found['lost']}, doubled {found['doubled']}, swapped {found['swapped']}; billed "
            f"{found['billed']} s = settled {found['settled']} s, {len(self.violations)} "
            f"violations, {self.seconds:.0f} s"
        )


def drawn(random: Random, count: int) -> Iterator[CountedSpan]:
    for _ in range(count):
        length = round(math.exp(random.uniform(0, math.log(LONGEST_SECONDS))))
        yield CountedSpan(random.randrange(NUMBERS - length + 1), length, random.choice(FORMS))


def formed(pcm: bytes, form: str) -> bytes:
    """Return PCM as a file of this format."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-threads", "1"]
    command += ["-f", "s16le", "-ar", "16000", "-ac", "1", "-i", "-"]
    quick = {"wav": ["-f", "wav"], "flac": ["-compression_level", "0", "-f", "flac"]}
    command += quick.get(form, ["-b:a", "64k", "-compression_level", "9", "-f", form])
    return subprocess.run([*command, "-"], input=pcm, capture_output=True, check=True).stdout


def heard(body: dict[str, Any]) -> Iterator[Second]:
    for segment in body["segments"]:
        yield from read(segment["text"])


if __name__ == "__main__":
    sys.exit(main())
