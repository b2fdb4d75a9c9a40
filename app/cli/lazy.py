"""Commands that are imported when they are called: half of them need no database driver."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

# Command name -> module below app.cli, in the order in which --help shows them.
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
    """The commands that it was given, and those of COMMANDS.

    A module has a Typer called `app` where it holds several commands, else a function of its name.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Name them all, whether imported or not."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, imported by now; None where there is none of this name."""
        if cmd_name not in self.commands and cmd_name in COMMANDS:
            self.commands[cmd_name] = _imported(cmd_name)
        return super().get_command(ctx, cmd_name)


def _imported(name: str) -> Any:
    module = import_module(f"app.cli.{COMMANDS[name]}")
    holder = typer.Typer(add_completion=False)
    if several := getattr(module, "app", None):
        holder.add_typer(several, name=name)
        return typer.main.get_group(holder).commands[name]
    holder.command(name)(getattr(module, name))
    return typer.main.get_command(holder)
