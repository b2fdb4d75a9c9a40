"""`asr-gateway jobs`: list, show, cancel and retry transcriptions."""

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from app.cli.connect import connect
from app.cli.errors import FAILED
from app.cli.printing import print_json, print_table, safe_lines
from app.cli.signals import Interrupts, run_async
from app.kit.text import printable
from app.net.api_client import ApiError, GatewayApi

app = typer.Typer(help="List, show, cancel and retry transcriptions.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(help="The id of a transcription, `tr_…`.", metavar="ID")]
Ids = Annotated[
    list[str], typer.Argument(help="The ids of transcriptions, `tr_…`.", metavar="ID...")
]
Body = Mapping[str, Any]

COLUMNS = ("id", "status", "done", "seconds", "cost", "model", "created", "reference")


@app.command("list")
def print_jobs(
    status: Annotated[
        str | None, typer.Option(help="queued, processing, completed, failed or cancelled.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only transcriptions by this model.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="Only transcriptions with this reference.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Number of transcriptions.")] = 20,
    as_json: Json = False,
) -> None:
    """List transcriptions, newest first."""
    filters = {"status": status, "model": model, "reference": reference, "limit": limit}
    query = {name: value for name, value in filters.items() if value is not None}

    async def work(_interrupts: Interrupts) -> int:
        async with connect() as api:
            page = await api.get("/v1/transcriptions", query)
        if as_json:
            print_json(page["items"])
        else:
            print_table(COLUMNS, [_columns_of(body) for body in page["items"]])
        return 0

    raise typer.Exit(run_async(work))


@app.command("show")
def print_job(job_id: Id, as_json: Json = False) -> None:
    """Show one transcription, with its text."""

    def report(body: Body) -> None:
        rows: dict[str, object] = dict(zip(COLUMNS, _columns_of(body), strict=True))
        rows |= {"language": body["language"], "plan": body["plan"]["reason"]}
        if body["error"]:
            rows["error"] = f"{body['error']['code']}: {body['error']['detail']}"
        for warning in body["warnings"]:
            rows[f"warning {warning['code']}"] = warning["detail"]
        for name, value in rows.items():
            if value not in {None, ""}:
                print(f"{name:>12}  {printable(str(value))}")
        if body["text"]:
            print(f"\n{safe_lines(body['text'])}")

    raise typer.Exit(_for_each([job_id], GatewayApi.transcription, report, as_json=as_json))


@app.command("cancel")
def cancel_jobs(job_ids: Ids, as_json: Json = False) -> None:
    """Cancel transcriptions that have not ended, and print their costs."""

    def report(body: Body) -> None:
        charged, in_doubt = _money(body["charged"]), _money(body["in_doubt"])
        print(f"{body['id']} is {body['status']}; charged {charged}, in doubt {in_doubt}.")

    code = _for_each(job_ids, lambda api, id_: api.act(id_, "cancel"), report, as_json=as_json)
    raise typer.Exit(code)


@app.command("retry")
def retry_jobs(job_ids: Ids, as_json: Json = False) -> None:
    """Retry the failed parts of transcriptions."""

    def report(body: Body) -> None:
        print(f"{body['id']} is {body['status']}.")

    code = _for_each(job_ids, lambda api, id_: api.act(id_, "retry"), report, as_json=as_json)
    raise typer.Exit(code)


def _for_each(
    job_ids: Sequence[str],
    action: Callable[[GatewayApi, str], Awaitable[Body]],
    report: Callable[[Body], None],
    *,
    as_json: bool,
) -> int:
    """Apply an action to each job and report the answers and the errors; return the exit code."""

    async def work(_interrupts: Interrupts) -> int:
        bodies, code = [], 0
        async with connect() as api:
            for job_id in job_ids:
                try:
                    bodies.append(await action(api, job_id))
                except ApiError as error:
                    reason = f"{job_id}: {error}" if error.code else str(error)
                    if error.code in {
                        "not_found",
                        "no_such_route",
                        "invalid_parameter",
                        "method_not_allowed",
                    }:
                        reason = (
                            f"There is no transcription {job_id!r} at this gateway; "
                            "`asr-gateway jobs list` lists them."
                        )
                    print(reason, file=sys.stderr)
                    code = FAILED
        if not as_json:
            for body in bodies:
                report(body)
        elif len(job_ids) > 1:
            print_json(bodies)
        elif bodies:
            print_json(bodies[0])
        return code

    return run_async(work)


def _columns_of(body: Body) -> tuple[object, ...]:
    return (
        *(body["id"], body["status"], f"{body['progress']:.0%}"),
        *((body["audio"] or {}).get("seconds"), _money(body["cost"]), body["model"]),
        *(body["created_at"], body["reference"]),
    )


def _money(cost: Mapping[str, Any]) -> str:
    return f"{cost['amount']} {cost['currency']}"
