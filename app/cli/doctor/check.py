"""The result of one check of `asr-gateway doctor`, and the time limit of a check."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`remedy` says what to do about a problem or a warning. The gateway works with warnings."""

    name: str
    is_well: bool
    found: str
    remedy: str = ""
    is_warning: bool = False

    @property
    def mark(self) -> str:
        if self.is_well:
            return "ok"
        return "warn" if self.is_warning else "ERROR"


def ok(name: str, found: str) -> CheckResult:
    """Return the result of a check that found no problem."""
    return CheckResult(name, is_well=True, found=found)


def failed(name: str, found: str, remedy: str) -> CheckResult:
    """Return a problem that keeps the gateway from working."""
    return CheckResult(name, is_well=False, found=found, remedy=remedy)


def warn(name: str, found: str, remedy: str) -> CheckResult:
    """Return a warning: the gateway works, but an operator should know of it."""
    return CheckResult(name, is_well=False, found=found, remedy=remedy, is_warning=True)


async def run_in_time(
    name: str, check: AsyncIterator[CheckResult], seconds: float
) -> list[CheckResult]:
    """Return the results of a check; a timeout or a failure of the check is a result as well."""
    results: list[CheckResult] = []
    try:
        async with asyncio.timeout(seconds):
            async for result in check:
                results.append(result)  # noqa: PERF401 - the results before the end count
    except TimeoutError:
        remedy = "Look at the disk, the network and the load of this machine, then try again."
        results.append(failed(name, f"could not be checked within {seconds:g} s", remedy))
    except Exception as error:  # noqa: BLE001 - the other checks may still say why
        remedy = "See the other findings; if there are none, report this one."
        results.append(failed(name, f"could not be checked ({type(error).__name__})", remedy))
    return results
