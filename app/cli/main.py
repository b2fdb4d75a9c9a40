"""`asr-gateway`: the commands of `app.cli.lazy`, serve, and version."""

import os
import sys
from typing import Annotated

import typer
from pydantic_core import ValidationError

from app import __version__
from app.cli.errors import CommandFailed
from app.cli.lazy import LazyGroup

app = typer.Typer(
    cls=LazyGroup,
    help="A self-hosted REST transcription gateway.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

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
    """Run the command line. An error is printed as one sentence, not as a traceback."""
    try:
        app()
    except CommandFailed as failure:
        print(failure, file=sys.stderr)
        sys.exit(failure.exit_code)
    except ValidationError as error:
        from app.settings import faults_of  # noqa: PLC0415 - loads all of pydantic

        for sentence in faults_of(error):
            print(sentence, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    run()
