"""`asr-gateway doctor`: check this installation and name a remedy for each problem."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Annotated

import typer
from pydantic import ValidationError

from app.cli.doctor import dashscope, database, invariants, machine, models, server
from app.cli.doctor.check import CheckResult, failed, run_in_time
from app.cli.errors import FAILED
from app.cli.printing import print_json
from app.settings import Settings, faults_of

CHECK_SECONDS = 15.0  # for each check; the checks run concurrently
ACCOUNT_SECONDS = 12.0  # in addition, for each further DashScope account


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check everything that the gateway needs. The exit code is 1 if there is a problem."""
    try:
        results = asyncio.run(_check_all(Settings()))
    except ValidationError as error:
        remedy = "Correct the variable in the environment or in .env; the gateway does not start."
        results = [failed("settings", sentence, remedy) for sentence in faults_of(error)]
    works = all(result.is_well or result.is_warning for result in results)
    if as_json:
        findings = [
            {
                "name": result.name,
                "status": {"ok": "ok", "warn": "warning"}.get(result.mark, "wrong"),
                "found": result.found,
                "remedy": result.remedy or None,
            }
            for result in results
        ]
        print_json({"works": works, "findings": findings})
    else:
        for result in results:
            print(f"{result.mark:5} {result.name}: {result.found}")
            if not result.is_well:
                print(f"      {result.remedy}")
    raise typer.Exit(0 if works else FAILED)


async def _check_all(settings: Settings) -> list[CheckResult]:
    checks: Mapping[str, AsyncIterator[CheckResult]] = {
        "listening": server.check_server(settings),
        "database": database.check_database(settings),
        "books": invariants.check_invariants(settings),
        "store": machine.check_store(settings),
        "decoder": machine.check_decoder(settings),
        "model": models.check_models(settings),
        "dashscope": dashscope.check_dashscope(settings),
    }
    seconds = {"dashscope": CHECK_SECONDS + ACCOUNT_SECONDS * len(settings.dashscope.accounts)}
    found = await asyncio.gather(
        *(
            run_in_time(name, check, seconds.get(name, CHECK_SECONDS))
            for name, check in checks.items()
        )
    )
    return [result for results in found for result in results]
