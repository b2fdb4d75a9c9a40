"""`asr-gateway`: transcribe, jobs, usage, serve, keys, models, prices, reconcile, doctor, demo."""

import os
import sys
from typing import Annotated

import typer
from pydantic import ValidationError

from app import __version__
from app.cli import demo, doctor, jobs, keys, models, prices, reconcile, transcribe, usage
from app.cli.failure import CommandFailed
from app.settings import faults_of

app = typer.Typer(
    help="A self-hosted REST transcription gateway.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("transcribe")(transcribe.transcribe)
app.add_typer(jobs.app, name="jobs")
app.command("usage")(usage.usage)
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(prices.app, name="prices")
app.command("reconcile")(reconcile.reconcile)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)

Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")]


@app.command()
def serve(host: Host = None, port: Port = None) -> None:
    """Serve the gateway until SIGTERM or Ctrl-C."""
    if host is not None:
        os.environ["GATEWAY_SERVER__HOST"] = host
    if port is not None:
        os.environ["GATEWAY_SERVER__PORT"] = str(port)
    # The server takes this process's place: it stands above the command line, not below it.
    os.execv(sys.executable, [sys.executable, "-m", "app.serve"])  # noqa: S606


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def run() -> None:
    """Run the command line; what goes wrong is one sentence, not a traceback."""
    try:
        app()
    except CommandFailed as failure:
        print(failure, file=sys.stderr)
        sys.exit(failure.exit_code)
    except ValidationError as error:
        for sentence in faults_of(error):
            print(sentence, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    run()
