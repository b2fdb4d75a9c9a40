"""`asr-gateway models`: list the models, and download local ones in advance."""

import asyncio
import sys
from typing import Annotated

import typer

from app.cli.printing import print_json, print_table
from app.settings import Settings
from app.speech.catalogue import load_catalogue
from app.speech.engines.local.weights.files import ModelMissingError, pull

app = typer.Typer(help="List models; download local ones.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def print_models(as_json: Json = False) -> None:
    """List the models of the catalogue."""
    models = load_catalogue(Settings().speech.catalogue).models.values()
    if as_json:
        print_json([model.model_dump(mode="json") for model in models])
        return
    rows = [(model.name, model.title, model.source, model.checked) for model in models]
    print_table(("model", "title", "source", "checked"), rows)


@app.command("pull")
def pull_model(
    name: Annotated[str, typer.Argument(help="A local model: base, tiny.en, or local/base.")],
    as_json: Json = False,
) -> None:
    """Download a local model into the cache, and check each file against its pinned hash."""

    def show_progress(done_bytes: int, total_bytes: int) -> None:
        percent = 100 * done_bytes // max(total_bytes, 1)
        if sys.stderr.isatty():
            print(f"\rdownloading {percent:3} %", end="", file=sys.stderr, flush=True)

    try:
        folder = asyncio.run(pull(name.removeprefix("local/"), Settings().local, show_progress))
    except ModelMissingError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error
    if as_json:
        print_json({"model": name, "folder": str(folder)}, indent=None)
    else:
        print(f"{name} is in {folder}")
