"""`asr-gateway`: the command line. A command's module is imported when the command is called."""

import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from pydantic_core import ValidationError
from typer.core import TyperGroup

from app import __version__
from app.cli.errors import CommandFailed

# Command name -> module below app.cli, in the order in which --help shows them. A module has a
# Typer called `app` for several commands, else a function with the command's name.
COMMANDS = {
    "transcribe": "transcribe.command",
    "jobs": "jobs",
    "usage": "usage",
    "keys": "keys",
    "models": "models",
    "prices": "prices",
    "reconcile": "reconcile",
    "doctor": "doctor.command",
    "health": "health",
    "demo": "demo",
}


class LazyGroup(TyperGroup):
    """The commands of this module and of COMMANDS: half of them need no database driver."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, imported or not."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and return a command; None if there is none of this name."""
        if cmd_name not in self.commands and cmd_name in COMMANDS:
            module = import_module(f"app.cli.{COMMANDS[cmd_name]}")
            holder = typer.Typer(add_completion=False)
            if several := getattr(module, "app", None):
                holder.add_typer(several, name=cmd_name)
                self.commands[cmd_name] = typer.main.get_group(holder).commands[cmd_name]
            else:
                holder.command(cmd_name)(getattr(module, cmd_name))
                self.commands[cmd_name] = typer.main.get_command(holder)
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    cls=LazyGroup,
    help="A self-hosted REST transcription gateway.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version_option(asked: bool) -> None:
    if asked:
        print_version()
        raise typer.Exit


@app.callback()
def take_options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_version_option, help="Print the version."
        ),
    ] = False,
) -> None:
    """Transcribe recordings by a self-hosted REST gateway."""


@app.command("serve")
def execute_server(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")
    ] = None,
) -> None:
    """Serve the gateway until SIGTERM or Ctrl-C."""
    if host is not None:
        os.environ["GATEWAY_SERVER__HOST"] = host
    if port is not None:
        os.environ["GATEWAY_SERVER__PORT"] = str(port)
    # The server replaces this process: its layer is above that of the command line.
    os.execv(sys.executable, [sys.executable, "-m", "app.serve"])  # noqa: S606


@app.command("version")
def print_version() -> None:
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
