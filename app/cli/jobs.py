"""`asr-gateway jobs`: list, show, cancel and retry transcriptions."""

import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from app.cli.connect import connected
from app.cli.errors import FAILED
from app.cli.signals import Interrupts, run_async
from app.cli.table import show
from app.net.api_client import ApiError, GatewayApi

app = typer.Typer(help="List, show, cancel and retry transcriptions.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(help="A transcription's id, `tr_…`.", metavar="ID")]
Ids = Annotated[list[str], typer.Argument(help="Ids, `tr_…`.", metavar="ID...")]
Body = Mapping[str, Any]

COLUMNS = ("id", "status", "done", "seconds", "cost", "model", "created", "reference")


@app.command("list")
def list_all(
    status: Annotated[
        str | None, typer.Option(help="queued, processing, completed, failed or cancelled.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    reference: Annotated[str | None, typer.Option(help="Only with this reference.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List transcriptions, newest first."""
    asked = {"status": status, "model": model, "reference": reference, "limit": limit}
    query = {name: value for name, value in asked.items() if value is not None}

    async def work(_interrupts: Interrupts) -> int:
        async with connected() as api:
            page = await api.get("/v1/transcriptions", query)
        if as_json:
            print(json.dumps(page["items"], ensure_ascii=False, indent=2))
        else:
            show(COLUMNS, [_row(body) for body in page["items"]])
        return 0

    raise typer.Exit(run_async(work))


@app.command("show")
def show_one(job_id: Id, as_json: Json = False) -> None:
    """Show one transcription, with its text."""
    raise typer.Exit(_each([job_id], GatewayApi.transcription, _tell, as_json=as_json))


@app.command()
def cancel(job_ids: Ids, as_json: Json = False) -> None:
    """Cancel transcriptions that have not ended, and print their costs."""
    raise typer.Exit(_each(job_ids, _steered("cancel"), _tell_cancelled, as_json=as_json))


@app.command()
def retry(job_ids: Ids, as_json: Json = False) -> None:
    """Retry the failed parts of transcriptions."""
    raise typer.Exit(_each(job_ids, _steered("retry"), _tell_status, as_json=as_json))


def _steered(deed: str) -> Callable[[GatewayApi, str], Awaitable[Body]]:
    return lambda api, job_id: api.act(job_id, deed)


def _each(
    job_ids: Sequence[str],
    deed: Callable[[GatewayApi, str], Awaitable[Body]],
    tell: Callable[[Body], None],
    *,
    as_json: bool,
) -> int:
    """Do a deed to each, telling of those that cannot be had; return the exit code."""

    async def work(_interrupts: Interrupts) -> int:
        done, code = [], 0
        async with connected() as api:
            for job_id in job_ids:
                try:
                    done.append(await deed(api, job_id))
                except ApiError as error:
                    print(_words(job_id, error), file=sys.stderr)
                    code = FAILED
        if as_json:
            single = len(job_ids) == 1
            if done or not single:
                told = done[0] if single else done
                print(json.dumps(told, ensure_ascii=False, indent=2))
        else:
            for body in done:
                tell(body)
        return code

    return run_async(work)


def _words(job_id: str, error: ApiError) -> str:
    if error.code in {"not_found", "invalid_parameter", "method_not_allowed"}:
        return f"There is no transcription {job_id!r} here; `asr-gateway jobs list` shows them."
    return str(error) if not error.code else f"{job_id}: {error}"


def _row(body: Body) -> tuple[object, ...]:
    return (
        *(body["id"], body["status"], f"{body['progress']:.0%}"),
        *(_seconds(body), _money(body["cost"]), body["model"]),
        *(body["created_at"], body["reference"]),
    )


def _tell(body: Body) -> None:
    rows: dict[str, object] = dict(zip(COLUMNS, _row(body), strict=True))
    rows |= {"language": body["language"], "plan": body["plan"]["reason"]}
    if body["error"]:
        rows["error"] = f"{body['error']['code']}: {body['error']['detail']}"
    for warning in body["warnings"]:
        rows[f"warning {warning['code']}"] = warning["detail"]
    for name, value in rows.items():
        if value not in {None, ""}:
            print(f"{name:>12}  {value}")
    if body["text"]:
        print(f"\n{body['text']}")


def _tell_cancelled(body: Body) -> None:
    charged, doubt = _money(body["charged"]), _money(body["in_doubt"])
    print(f"{body['id']} is {body['status']}; charged {charged}, in doubt {doubt}.")


def _tell_status(body: Body) -> None:
    print(f"{body['id']} is {body['status']}.")


def _seconds(body: Body) -> object:
    return (body["audio"] or {}).get("seconds")


def _money(cost: Mapping[str, Any]) -> str:
    return f"{cost['amount']} {cost['currency']}"
