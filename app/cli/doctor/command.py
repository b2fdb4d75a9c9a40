"""`asr-gateway doctor`: check this installation and name a remedy for each problem."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated

import typer

from app.cli.doctor import dashscope, database, invariants, machine, models, server
from app.cli.doctor.check import CheckResult, in_time
from app.cli.errors import FAILED
from app.settings import Settings

CHECK_SECONDS = 15.0  # for each; they are made side by side
ACCOUNT_SECONDS = 12.0  # for each DashScope account, beside that


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check everything that the gateway needs. The exit code is 1 if there is a problem."""
    findings = asyncio.run(_examined(Settings()))
    if as_json:
        print(json.dumps(_plain(findings), indent=2))
    else:
        for finding in findings:
            print(f"{finding.mark:5} {finding.name}: {finding.found}")
            if not finding.is_well:
                print(f"      {finding.remedy}")
    raise typer.Exit(0 if _works(findings) else FAILED)


async def _examined(settings: Settings) -> list[CheckResult]:
    checks: Mapping[str, AsyncIterator[CheckResult]] = {
        "listening": server.check_server(settings),
        "database": database.check_database(settings),
        "books": invariants.check_invariants(settings),
        "store": machine.store(settings),
        "decoder": machine.decoder(settings),
        "model": models.check_models(settings),
        "dashscope": dashscope.check_dashscope(settings),
    }
    seconds = {"dashscope": CHECK_SECONDS + ACCOUNT_SECONDS * len(settings.dashscope.accounts)}
    found = await asyncio.gather(
        *(in_time(name, check, seconds.get(name, CHECK_SECONDS)) for name, check in checks.items())
    )
    return [finding for findings in found for finding in findings]


def _works(findings: Sequence[CheckResult]) -> bool:
    return all(one.is_well or one.is_warning for one in findings)


def _plain(findings: Sequence[CheckResult]) -> dict[str, object]:
    return {
        "works": _works(findings),
        "findings": [
            {
                "name": one.name,
                "status": {"ok": "ok", "warn": "warning"}.get(one.mark, "wrong"),
                "found": one.found,
                "remedy": one.remedy or None,
            }
            for one in findings
        ],
    }
