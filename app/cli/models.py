"""`asr-gateway models`: which there are, and fetching the local ones beforehand."""

import asyncio
import json
import sys
from typing import Annotated

import typer

from app.cli.table import show
from app.settings import Settings
from app.speech.catalogue import load_catalogue
from app.speech.engines.local.weights.files import ModelMissingError, pull

app = typer.Typer(help="List models; fetch local ones.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_all(as_json: Json = False) -> None:
    """List the catalogue's models."""
    models = load_catalogue(Settings().speech.catalogue).models.values()
    if as_json:
        print(json.dumps([model.model_dump(mode="json") for model in models], indent=2))
        return
    rows = [(model.name, model.title, model.source, model.checked) for model in models]
    show(("model", "title", "source", "checked"), rows)


@app.command("pull")
def fetch(
    name: Annotated[str, typer.Argument(help="A local model: base, tiny.en, or local/base.")],
    as_json: Json = False,
) -> None:
    """Fetch a local model into the cache, each file checked against its pinned hash."""
    try:
        folder = asyncio.run(pull(name.removeprefix("local/"), Settings().local, _show))
    except ModelMissingError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error
    told = {"model": name, "folder": str(folder)}
    print(json.dumps(told) if as_json else f"{name} is in {folder}")


def _show(done_bytes: int, total_bytes: int) -> None:
    percent = 100 * done_bytes // max(total_bytes, 1)
    if sys.stderr.isatty():
        print(f"\rdownloading {percent:3} %", end="", file=sys.stderr, flush=True)
