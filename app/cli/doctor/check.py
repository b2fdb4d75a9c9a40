"""One thing that `asr-gateway doctor` has looked at, and how long it may look."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy` is what to do where it is not well; a warning keeps nothing from working."""

    name: str
    is_well: bool
    found: str
    remedy: str = ""
    is_warning: bool = False

    @property
    def mark(self) -> str:
        if self.is_well:
            return "ok"
        return "warn" if self.is_warning else "WRONG"


def well(name: str, found: str) -> Finding:
    """Return a finding that nothing has to be done about."""
    return Finding(name, is_well=True, found=found)


def wrong(name: str, found: str, remedy: str) -> Finding:
    """Return a finding that keeps the gateway from working."""
    return Finding(name, is_well=False, found=found, remedy=remedy)


def odd(name: str, found: str, remedy: str) -> Finding:
    """Return a finding that somebody should know of, though the gateway works."""
    return Finding(name, is_well=False, found=found, remedy=remedy, is_warning=True)


async def in_time(name: str, check: AsyncIterator[Finding], seconds: float) -> list[Finding]:
    """Return what a check finds; that it did not end, or failed itself, is a finding as well."""
    found: list[Finding] = []
    try:
        async with asyncio.timeout(seconds):
            async for finding in check:
                found.append(finding)  # noqa: PERF401 - what was found before the end counts
    except TimeoutError:
        remedy = "Look at the disk, the network and the load of this machine, then ask again."
        found.append(wrong(name, f"could not be looked at within {seconds:g} s", remedy))
    except Exception as error:  # noqa: BLE001 - the other checks may still say why
        remedy = "See the other findings; if there are none, report this one."
        found.append(wrong(name, f"could not be looked at ({type(error).__name__})", remedy))
    return found
