"""The simulator as a program: python -m tests.simulator --help."""

import argparse
import asyncio
import contextlib
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

from tests.simulator import Counting, Delays, Limits, ProviderSimulator, Script
from tests.simulator.bill import ROUNDINGS
from tests.simulator.faults import ALL_FAULTS
from tests.simulator.speech import SpeechSource


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m tests.simulator",
        description="A DashScope on loopback.",
        epilog=_told_faults(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add(
        "--port",
        type=int,
        default=8900,
        help="of the first region; others, store follow (0: any)",
    )
    add("--region", action="append", help="cn-beijing (default), ap-southeast-1, us-east-1, vllm")
    add(
        "--key",
        action="append",
        default=[],
        metavar="[REGION=]KEY",
        help="default: sk-simulator-REGION",
    )
    add("--seed", type=int, help="draws the rounding and the faults (default: drawn and printed)")
    add("--say", metavar="TEXT", help="what every recording says (default: the numbers it counts)")
    add("--hear", type=Path, metavar="FOLDER", help="listen with the Whisper model of this folder")
    add("--rounding", choices=list(ROUNDINGS))
    add("--rpm", type=int, nargs="?", const=0, help="limit calls a minute; alone: the model's own")
    add("--per-second", action="store_true", help="no more than RPM/60 in any second")
    add("--burst", type=float, metavar="CALLS", help="size of the bucket that bursts empty")
    figure: dict[str, Any] = {"type": int, "nargs": "?", "const": 0, "metavar": "A SECOND"}
    add("--task-calls", **figure, help="limit queries, lists and cancellations; alone: to 20")
    add("--policies", **figure, help="limit upload policies; alone: to 100")
    add("--retry-after", action="store_true", help="let a 429 of the limits tell when to come back")
    add("--clock-scale", type=float, default=1.0, help="how many times faster the minutes go by")
    add("--fault", action="append", default=[], metavar="NAME=CHANCE", help="see below")
    add("--pending", default="0.2", metavar="SECONDS", help="how long tasks wait; A-B: drawn")
    add("--running", default="0.2", metavar="SECONDS", help="how long they run; A-B: drawn")
    add("--pace", type=float, default=0.0, metavar="SECONDS", help="more for each second of audio")
    add("--latency", type=float, default=0.0, metavar="SECONDS")
    add("--nesting", choices=["flat", "doubled", "nested"], default="flat")
    add("--revive", action="append", default=[], metavar="MODEL", help="a retired model that runs")
    add("--bill", type=Path, metavar="FILE", help="write the vendor's bill there at the end")
    return parser.parse_args(arguments)


def simulator_of(given: argparse.Namespace) -> ProviderSimulator:
    regions = given.region or ["cn-beijing"]
    return ProviderSimulator(
        host=given.host,
        port=given.port,
        regions=regions,
        keys=_keys(given.key, regions[0]),
        seed=given.seed,
        words=_words(given),
        rounding=given.rounding,
        limits=Limits(
            rpm=_figure(given.rpm),
            per_second=given.per_second,
            burst=given.burst,
            task_calls=_figure(given.task_calls),
            policies=_figure(given.policies),
            retry_after=given.retry_after,
        ),
        clock_scale=given.clock_scale,
        faults={
            name: float(chance) for name, _, chance in (one.partition("=") for one in given.fault)
        },
        delays=Delays(_span(given.pending), _span(given.running), given.pace),
        latency_seconds=given.latency,
        nesting=given.nesting,
        revived=given.revive,
    )


def _words(given: argparse.Namespace) -> SpeechSource:
    if given.hear:
        from tests.simulator.whisper import WhisperSpeech  # noqa: PLC0415 - loads an engine for speech

        return WhisperSpeech(given.hear)
    return Counting() if given.say is None else Script(given.say)


def _keys(given: list[str], first: str) -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {}
    for one in given:
        region, _, key = one.rpartition("=")
        keys.setdefault(region or first, []).append(key)
    return keys


def _figure(given: int | None) -> int | bool:
    """Return the limit of an option; without a figure it is the provider's own limit."""
    return True if given == 0 else given or False


def _span(given: str) -> float | tuple[float, float]:
    least, _, most = given.partition("-")
    return (float(least), float(most)) if most else float(least)


def _told_faults() -> str:
    kinds: dict[str, list[str]] = {}
    for name, fault in ALL_FAULTS.items():
        kinds.setdefault(fault.place, []).append(name)
    lines = (
        textwrap.fill(
            f"{kind}: {', '.join(names)}", 90, subsequent_indent="    ", break_on_hyphens=False
        )
        for kind, names in kinds.items()
    )
    return (
        "faults, by the kind of request that they befall (a submit is a call too):\n"
        + "\n".join(lines)
    )


async def run(given: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    async with simulator_of(given) as simulator:
        for region, url in simulator.urls.items():
            sys.stdout.write(f"{region}: {url} key {simulator.key_of(region)}\n")
        sys.stdout.write(f"store: {simulator.store_url}\n")
        sys.stdout.flush()
        await stopped.wait()
    if given.bill:
        given.bill.write_text(simulator.bill_csv())


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(parsed()))
